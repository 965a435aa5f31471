#!/bin/sh
# SMG 1.13 (`pip install smg==1.13.0`, in an environment of its own) in front of replicas:
#   WORKERS="http://127.0.0.1:8001 http://127.0.0.1:8002" sh smg.sh
# Replicas: thirdeye serve --vllm-metrics --drain-delay 5; SMG reads their load under vLLM's names.
# It keeps a tree of the prompts it has sent where: who shares a prefix comes to its replica.
set -eu
WORKERS=${WORKERS:-http://127.0.0.1:8001 http://127.0.0.1:8002}
# shellcheck disable=SC2086  # a URL is a word
exec "${SMG:-smg}" launch --worker-urls $WORKERS \
    --host "${HOST:-127.0.0.1}" --port "${PORT:-8080}" \
    --prometheus-host 127.0.0.1 --prometheus-port "${METRICS_PORT:-29000}" \
    --backend vllm --policy cache_aware \
    --health-check-endpoint /ready --health-check-interval-secs 1 --health-check-timeout-secs 5 \
    --health-failure-threshold 2 --health-success-threshold 1 \
    --worker-startup-check-interval 1 \
    --sse-keepalive-secs 0 \
    --log-level warn
