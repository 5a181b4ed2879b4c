"""What a tenant's developer uses: the `workers` package and the build from source to a component."""
