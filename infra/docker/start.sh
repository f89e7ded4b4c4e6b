#!/bin/sh
# Starts what the first word names; anything else is run as it stands. `exec`: the service is process 1 and gets SIGTERM.
set -eu

case "${1:-}" in
    worker)
        # The container's name, so that replicas can be told apart in metrics and job records.
        export WORKER_ID="${WORKER_ID:-${HOSTNAME:-$(uname -n)}}"
        exec python -m "$@"
        ;;
    gateway | manager | monitor)
        exec python -m "$@"
        ;;
    simulator)
        shift
        exec python -m infra.simulator --host 0.0.0.0 "$@"
        ;;
    *)
        exec "$@"
        ;;
esac
