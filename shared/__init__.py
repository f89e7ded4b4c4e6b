"""What two services agree on: jobs, errors, settings, wire forms, the queue, backends and telemetry."""
