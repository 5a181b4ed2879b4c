"""From a worker's source to a component: reads its configuration, gathers its modules, runs componentize-py.

Nothing of the host program is needed here, nor imported: a tenant's developer builds with this package alone.
"""

from guest_sdk.build.component import BuildError, build
from guest_sdk.build.configuration import (
    Configuration,
    ConfigurationError,
    MigrationSettings,
    read_configuration,
    read_migration_settings,
)

__all__ = [
    "BuildError",
    "Configuration",
    "ConfigurationError",
    "MigrationSettings",
    "build",
    "read_configuration",
    "read_migration_settings",
]
