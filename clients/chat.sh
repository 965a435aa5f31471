#!/bin/sh
# chat.sh [-m MODEL] [-s SYSTEM] [--] [PROMPT]
#
# Chats by /v1/chat/completions: with PROMPT one question, else one question for each line of the
# standard input, each with all that was said before. OPENAI_BASE_URL and OPENAI_API_KEY are
# honoured. Exit status: 0 if all answers were whole, 1 for a failure, 2 for wrong usage.

set -u
# shellcheck source=clients/wire.sh
. "$(dirname "$0")/wire.sh"

model='' messages=''
while getopts m:s: option; do
    case $option in
        m) model=$(json_string "$OPTARG") ;;
        s) messages="{\"role\":\"system\",\"content\":$(json_string "$OPTARG")}," ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))

exec 4>&1 # the text goes here, past the $(...) that catches the answer as JSON

# The answer joins the conversation as the JSON that it came in.
ask() {
    turn="$messages{\"role\":\"user\",\"content\":$(json_string "$1")}"
    body="{\"model\":$model,\"messages\":[$turn],\"temperature\":0.3,\"stream\":true}"
    answer=$(post chat/completions "$body" | read_stream content 3>&1 >&4) || return 1
    messages="$turn,{\"role\":\"assistant\",\"content\":\"$answer\"},"
}

[ -n "$model" ] || model=$(first_model) || exit 1

if [ $# -gt 0 ]; then
    ask "$*"
    exit
fi

failures=0
prompt() { if [ -t 0 ]; then printf '> ' >&2; fi; }
while prompt && IFS= read -r line || [ -n "${line:-}" ]; do
    [ -z "$line" ] || ask "$line" || failures=1
done
exit "$failures"
