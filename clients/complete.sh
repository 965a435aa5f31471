#!/bin/sh
# complete.sh [-m MODEL] [-n MAX_TOKENS] [--] [PROMPT]
#
# What follows PROMPT, as the model writes it, by /v1/completions: no chat template. Without PROMPT
# the standard input is taken, less the newline that ends it. OPENAI_BASE_URL and OPENAI_API_KEY are
# honoured. Exit status: 0 for a whole answer, 1 for a failure, 2 for wrong usage.

set -u
# shellcheck source=clients/wire.sh
. "$(dirname "$0")/wire.sh"

model='' max_tokens=64
while getopts m:n: option; do
    case $option in
        m) model=$(json_string "$OPTARG") ;;
        n) max_tokens=$OPTARG ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))

case $max_tokens in
    '' | *[!0-9]*) printf "'-n' must be a number, got %s\n" "$max_tokens" >&2 && exit 2 ;;
esac

prompt=${*-}
if [ $# -eq 0 ]; then
    prompt=$(cat && echo x) # the x keeps the newlines that $(...) would cut off
    prompt=${prompt%x}
    prompt=${prompt%'
'}
fi

[ -n "$model" ] || model=$(first_model) || exit 1
body="{\"model\":$model,\"prompt\":$(json_string "$prompt"),\"max_tokens\":$max_tokens,\"temperature\":0.3,\"stream\":true}"
post completions "$body" | read_stream text 3>/dev/null
