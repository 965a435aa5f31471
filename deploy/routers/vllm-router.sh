#!/bin/sh
# vllm-router 0.1.17 (`pip install vllm-router==0.1.17`, in an environment of its own) in front of
# replicas:  WORKERS="http://127.0.0.1:8001 http://127.0.0.1:8002" sh vllm-router.sh
# Replicas: thirdeye serve --vllm-metrics --drain-delay 5
set -eu
WORKERS=${WORKERS:-http://127.0.0.1:8001 http://127.0.0.1:8002}
# shellcheck disable=SC2086  # a URL is a word
exec "${VLLM_ROUTER:-vllm-router}" --worker-urls $WORKERS \
    --host "${HOST:-127.0.0.1}" --port "${PORT:-8080}" \
    --prometheus-host 127.0.0.1 --prometheus-port "${METRICS_PORT:-29000}" \
    --policy cache_aware \
    --health-check-endpoint /ready --health-check-interval-secs 1 --health-check-timeout-secs 5 \
    --health-failure-threshold 2 --health-success-threshold 1 \
    --worker-startup-check-interval 1 \
    --log-level warning
