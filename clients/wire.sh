# shellcheck shell=sh
# The wire, in POSIX sh: what chat.sh and complete.sh share. Needs curl, dd, sed and tr; no jq, no awk.
#
#   json_string TEXT   TEXT as a JSON string
#   get PATH           the answer to a GET
#   post PATH JSON     the event stream that answers a POST, as it comes
#   read_stream KEY    such a stream in; the text under KEY out, as it comes
#
# JSON is read by looking for `"KEY":"`. That is sound: inside of a string every quote has a
# backslash before it, so these characters can only be a key and the start of its text.

LC_ALL=C # patterns and sed see bytes
export LC_ALL

base_url=${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}
base_url=${base_url%/}
case $base_url in
    *://*/*) ;;
    *) base_url=$base_url/v1 ;; # http://host alone is short for http://host/v1
esac

carriage_return=$(printf '\r')
max_blocks=${max_blocks:-131072} # of at most 512 bytes, of an answer: no more is read
max_silence=600 # seconds; a ping counts
max_empty=${max_empty:-100000} # lines, and seconds, of a stream without a token: pings, blank ones
max_wait=${max_wait:-3600}
# In UTF-8: DEL, C1, line separators and directions (U+2028 to 202E), isolates (U+2066 to 206F).
delete=$(printf '\177') c2=$(printf '\302') e2=$(printf '\342')
steering=$(printf 's/\177//g;s/\302[\200-\237]//g;s/\342\200[\250-\256]//g;s/\342\201[\246-\257]//g')
special='["\\]*' # a shell pattern: all from the first quote or backslash on

# The second line of the script says how it is called.
usage() {
    sed -n '2s/^# /usage: /p' "$0" >&2
    exit 2
}

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# A backslash before each quote and backslash; each control character as \u00XX.
json_escapes=$(
    printf '%s\n' 's/[\\"]/\\&/g'
    i=0
    while [ "$((i += 1))" -lt 32 ]; do
        [ "$i" -eq 10 ] || printf 's/%b/\\\\u%04x/g\n' "\\0$((i / 8))$((i % 8))" "$i"
    done
)

# The line ends become \n last: sed never sees them. The printf ends the last line, as sed asks.
json_string() {
    printf '"%s"' "$(printf '%s\n' "$1" | LC_ALL=C sed -e "$json_escapes" -e '$!s/$/\\n/' | tr -d '\n')"
}

# Everything goes to curl by its standard input: arguments are for all to see in `ps`.
request() {
    printf 'url = "%s/%s"\n' "$(quoted "$base_url")" "$1"
    if [ -n "${OPENAI_API_KEY:-}" ]; then
        printf 'header = "Authorization: Bearer %s"\n' "$(quoted "$OPENAI_API_KEY")"
    fi
    if [ $# -gt 1 ]; then
        printf 'header = "Content-Type: application/json"\n'
        printf 'data-binary = "%s"\n' "$(quoted "$2")"
    fi
}

quoted() {
    printf '%s' "$1" | tr -d '\r\n' | LC_ALL=C sed 's/[\\"]/\\&/g'
}

# The last line is the HTTP status, 000 if there was no answer. A proxy must not catch loopback. dd,
# unlike head, hands on at once what it reads.
run_curl() {
    no_proxy=${no_proxy:-${NO_PROXY:-}},localhost,127.0.0.1,::1 \
        curl --silent --show-error --no-buffer --connect-timeout 5 \
        --speed-limit 1 --speed-time "$max_silence" \
        --config - --write-out '\nstatus: %{http_code}\n' |
        dd bs=512 count="$max_blocks" 2>/dev/null
}

get() { request "$1" | run_curl; }
post() { request "$1" "$2" | run_curl; }

# Sets $rest to what follows the opening quote of KEY's text in JSON; fails if there is none.
find_text() { # KEY JSON
    case $2 in
        *"\"$1\":\""*) rest=${2#*"\"$1\":\""} ;;
        *"\"$1\": \""*) rest=${2#*"\"$1\": \""} ;;
        *) return 1 ;;
    esac
}

# Prints the JSON string at $rest up to its closing quote, without escapes; adds it to $raw with them.
print_text() {
    while :; do
        # shellcheck disable=SC2295  # a pattern it is
        plain=${rest%%$special}
        print_plain
        rest=${rest#"$plain"}
        raw=$raw$plain
        case $rest in
            \\u[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F]*) print_unicode ;;
            \\n*) printf '\n' && take 2 ;;
            \\t*) printf '\t' && take 2 ;;
            \\r*) code=13 && print_utf8 && take 2 ;;
            \\b*) code=8 && print_utf8 && take 2 ;;
            \\f*) code=12 && print_utf8 && take 2 ;;
            \\?*) take 1 && printf '%.1s' "$rest" && take 1 ;; # \" \\ \/ stand for themselves
            *) return ;;
        esac
    done
}

# $plain; on a terminal without what would steer it or turn a line round.
print_plain() {
    shown=$plain
    if [ -t 1 ]; then
        case $plain in
            *"$delete"* | *"$c2"* | *"$e2"*) shown=$(printf '%s\n' "$plain" | sed "$steering") ;;
        esac
    fi
    printf '%s' "$shown"
}

# Moves COUNT characters from $rest to $raw.
take() {
    count=$1
    while [ "$count" -gt 0 ]; do
        raw=$raw${rest%"${rest#?}"}
        rest=${rest#?}
        count=$((count - 1))
    done
}

print_unicode() {
    read_code
    case $((code >> 10))$rest in
        54\\u[dD][c-fC-F][0-9a-fA-F][0-9a-fA-F]*) # a surrogate pair: 10 bits in each half
            high=$code
            read_code
            code=$((0x10000 + ((high - 0xd800) << 10) + code - 0xdc00))
            ;;
        54* | 55*) code=$((0xfffd)) ;; # half a pair is no character
    esac
    print_utf8
}

# The number in the \uXXXX at $rest.
read_code() {
    code=${rest#??}
    code=$((0x${code%"${code#????}"}))
    take 6
}

print_utf8() {
    if [ -t 1 ] && steers; then
        return # a model must not steer the terminal
    elif [ "$code" -lt 128 ]; then
        print_byte "$code"
    elif [ "$code" -lt 2048 ]; then
        print_byte $((0xc0 | code >> 6)) $((0x80 | code & 63))
    elif [ "$code" -lt 65536 ]; then
        print_byte $((0xe0 | code >> 12)) $((0x80 | code >> 6 & 63)) $((0x80 | code & 63))
    else
        print_byte $((0xf0 | code >> 18)) $((0x80 | code >> 12 & 63)) \
            $((0x80 | code >> 6 & 63)) $((0x80 | code & 63))
    fi
}

# Whether $code is one of those that `steering` takes out, or of C0.
steers() {
    [ "$code" -lt 32 ] || { [ "$code" -ge 127 ] && [ "$code" -lt 160 ]; } ||
        { [ "$code" -ge 8232 ] && [ "$code" -le 8238 ]; } ||
        { [ "$code" -ge 8294 ] && [ "$code" -le 8303 ]; }
}

print_byte() {
    for byte; do
        printf '%b' "\\0$((byte >> 6))$((byte >> 3 & 7))$((byte & 7))"
    done
}

# Text to fd 1, the same text as JSON to fd 3. Fails unless the stream was whole and without error.
read_stream() {
    is_done='' failure='' status=000 other='' raw='' left=''
    num_empty=0
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%"$carriage_return"}
        case $line in
            data:*'[DONE]') is_done=yes ;;
            data:*'"error":{'* | data:*'"error": {'*) failure=$line ;;
            data:*)
                if find_text "$1" "$line"; then see_token && print_text; fi
                if find_text reasoning_content "$line"; then see_token; fi
                ;;
            'status: '*) status=${line#status: } ;;
            '' | :* | event:* | id:* | retry:*) ;; # pings, and fields that this API does not need
            *) other=$other$line ;;
        esac
        if [ "$num_empty" -lt 0 ]; then
            num_empty=0
        elif is_too_long; then
            break
        fi
    done
    [ -z "$raw" ] || printf '\n'
    printf '%s' "$raw" >&3
    check_end
}

# Whether $rest has a text in it: a token came.
see_token() {
    case $rest in
        \"*) ;;
        *) num_empty=-1 ;;
    esac
}

# Sets $left to why, where a stream goes on without a token. The clock is a process: of many lines it
# is asked at each tenth, which may come late by nine silences.
is_too_long() {
    [ "$num_empty" -gt 0 ] || since=$(date +%s)
    num_empty=$((num_empty + 1))
    if [ "$num_empty" -gt "$max_empty" ]; then
        left="sent $max_empty lines without a token"
    elif [ "$num_empty" -lt 100 ] || [ "$((num_empty % 10))" = 0 ]; then
        [ "$(($(date +%s) - since))" -le "$max_wait" ] || left="brought no token for $max_wait s"
    fi
    [ -n "$left" ]
}

check_end() {
    if [ -n "$left" ]; then
        printf 'The stream %s: it was left.\n' "$left" >&2
    elif [ -n "$failure" ]; then
        complain "$failure" 'in mid-stream'
    elif [ "$status" != 200 ]; then
        complain "$other" "$status"
    elif [ -z "$is_done" ]; then
        printf 'The stream ended without [DONE]: the answer may be cut.\n' >&2
    else
        return 0
    fi
    return 1
}

# The message of an error object, or what else there is to say, on fd 2.
complain() { # JSON STATUS
    if [ "$2" = 000 ]; then
        printf 'No server answers at %s. Start one with: thirdeye serve, or name one in OPENAI_BASE_URL.\n' "$base_url" >&2
    elif find_text message "$1" || find_text error "$1" || find_text detail "$1"; then
        print_text >&2
        printf ' (%s)\n' "$2" >&2
    else
        printf 'The server gave no reason. (%s)\n' "$2" >&2
    fi
}

# The first model that the server serves, as a JSON string.
first_model() {
    answer=$(get models | tr -d '\r\n') raw=''
    status=${answer##*status: }
    if [ "$status" != 200 ]; then
        complain "${answer%status: *}" "$status"
        return 1
    fi
    find_text id "$answer" || die 'The server lists no model: name one with -m.'
    print_text >/dev/null
    printf '"%s"' "$raw"
}
