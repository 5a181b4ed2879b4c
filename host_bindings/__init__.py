"""Everything that a component can import: one folder for each capability, and the contract as WIT.

Nothing here knows of wasm, of HTTP or of the host program: `runtime` imports this package, never the reverse.
"""

from pathlib import Path

WIT_DIRECTORY = Path(__file__).parent / "wit"
"""The folder with the contract's WIT package, for builders of components."""
