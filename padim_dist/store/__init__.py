"""Files of a workspace: manifests, moments, models, runs, nights, leases."""
