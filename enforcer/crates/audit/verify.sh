#!/bin/sh
# Verifies one record of an enforcer audit log, offline, with a POSIX shell, openssl and xxd.
#
#   sh verify.sh RECORD PROOF KEY
#
# RECORD  the record's bytes (record.json)
# PROOF   its proof in the form of C2SP tlog-proof@v1 (record.tlog-proof)
# KEY     the log's public key, `origin+id+base64`, or a file with it. Have it from somebody you
#         trust: a key that came with the record proves nothing.
#
# Ends with 0 when the record is in the log that the key signs, with 7 when it is not, with 2 when
# it could not be verified. Accepts exactly one spelling of everything (RFC 6962, C2SP signed-note).

export LC_ALL=C
unset CDPATH

refuse() { printf 'REFUSED: %s\n' "$1" >&2; exit 7; }
unable() { printf 'NOT VERIFIED: %s\n' "$1" >&2; exit 2; }

[ $# -eq 3 ] || unable 'usage: sh verify.sh RECORD PROOF KEY'
for tool in openssl xxd; do
    command -v "$tool" >/dev/null 2>&1 || unable "$tool is not installed"
done
[ -f "$1" ] && [ -r "$1" ] || unable "cannot read the record $1"
[ -f "$2" ] && [ -r "$2" ] || unable "cannot read the proof $2"

umask 077
work=${TMPDIR:-/tmp}/verify-record.$$
mkdir "$work" || unable "cannot create $work"
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM

newline='
'

# sha256 of standard input, in hexadecimal
sha256() {
    sha256=$(openssl dgst -sha256 -r) || unable 'openssl cannot hash'
    printf '%s' "${sha256%% *}"
}

# the bytes of base64 in its only spelling, in hexadecimal
unbase64() {
    data=${1%=}
    data=${data%=}
    case $data in '' | *[!A-Za-z0-9+/]*) return 1 ;; esac
    [ $((${#1} % 4)) -eq 0 ] || return 1
    # bits behind the last byte are zero
    case $((${#1} - ${#data}))$data in
        0* | 1*[AEIMQUYcgkosw048] | 2*[AQgw]) ;;
        *) return 1 ;;
    esac
    printf '%s' "$1" | openssl base64 -d -A | xxd -p -c 256
}

# a decimal number in its only spelling that shell arithmetic can hold
number() {
    case $1 in
        '' | *[!0-9]* | 0?* | ???????????????????*) return 1 ;;
    esac
}

# ---- the key: origin+id+base64(01 || 32 bytes)

if [ -f "$3" ]; then IFS= read -r key <"$3" || refuse 'the key file is not one line'
else key=$3
fi
origin=${key%%+*}
rest=${key#*+}
id=${rest%%+*}
case $rest in *+*) ;; *) refuse 'not a public key' ;; esac
public=$(unbase64 "${rest#*+}") || refuse 'not a public key'
case $public in 01*) public=${public#01} ;; *) refuse 'not an Ed25519 key' ;; esac
[ ${#public} -eq 64 ] || refuse 'not an Ed25519 key'
named=$( { printf '%s\n\001' "$origin"; printf '%s' "$public" | xxd -r -p; } | sha256)
[ "$id" = "${named%"${named#????????}"}" ] || refuse 'the id of the key does not belong to it'

# ---- the proof, line by line

index='' path='' text='' signature='' size='' root=''
part=header
lines=0
: >"$work/again"
while IFS= read -r line; do
    printf '%s\n' "$line" >>"$work/again"
    lines=$((lines + 1))
    [ $lines -le 256 ] || refuse 'the proof is too long'
    case $part in
        header)
            [ "$line" = 'c2sp.org/tlog-proof@v1' ] || refuse 'not a tlog-proof@v1'
            part=index ;;
        index)
            case $line in
                'extra '*) [ $lines -eq 2 ] || refuse 'extra data out of place' ;;
                'index '*)
                    index=${line#index }
                    number "$index" || refuse 'the index is not a number'
                    part=path ;;
                *) refuse 'the index is missing' ;;
            esac ;;
        path)
            if [ -z "$line" ]; then part=origin
            else
                hash=$(unbase64 "$line") && [ ${#hash} -eq 64 ] || refuse 'not a hash in the path'
                path="$path $hash"
            fi ;;
        origin)
            [ "$line" = "$origin" ] || refuse 'the checkpoint is of another log'
            part=size ;;
        size)
            number "$line" || refuse 'the size is not a number'
            size=$line part=root ;;
        root)
            root=$(unbase64 "$line") && [ ${#root} -eq 64 ] || refuse 'the root is not a hash'
            part=text ;;
        text)
            [ -n "$line" ] || part=signatures ;;
        signatures)
            case $line in
                "— $origin "*)
                    bytes=$(unbase64 "${line#"— $origin "}") || refuse 'not a signature'
                    case $bytes in
                        "$id"*)
                            [ -z "$signature" ] || refuse 'two signatures of one key'
                            signature=${bytes#"$id"} ;;
                    esac ;;
                '— '*' '*) ;; # of somebody else
                *) refuse 'not a signature' ;;
            esac ;;
    esac
    case $part in
        size | root | text) text="$text$line$newline" ;;
    esac
done <"$2"
[ "$(sha256 <"$work/again")" = "$(sha256 <"$2")" ] || refuse 'the proof has bytes that are no text'
[ "$part" = signatures ] && [ ${#signature} -eq 128 ] || refuse 'not signed by this key'

# ---- the signature over the checkpoint

printf '%s' "$text" >"$work/text"
printf '%s' "$signature" | xxd -r -p >"$work/signature"
printf '302a300506032b6570032100%s' "$public" | xxd -r -p >"$work/key"
openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$work/key" \
    -sigfile "$work/signature" -in "$work/text" >/dev/null 2>&1 ||
    refuse 'the signature does not fit the checkpoint'

# ---- the path from the record to the root (RFC 9162, section 2.1.3.2)

[ "$index" -lt "$size" ] || refuse 'the index is behind the end of the log'
node=$( { printf '\000'; cat < "$1"; } | sha256)
place=$index
last=$((size - 1))
for sibling in $path; do
    [ "$last" -gt 0 ] || refuse 'the path is too long'
    if [ $((place % 2)) -eq 1 ] || [ "$place" -eq "$last" ]; then
        node=$(printf '01%s%s' "$sibling" "$node" | xxd -r -p | sha256)
        while [ $((place % 2)) -eq 0 ]; do
            place=$((place / 2)) last=$((last / 2))
        done
    else
        node=$(printf '01%s%s' "$node" "$sibling" | xxd -r -p | sha256)
    fi
    place=$((place / 2)) last=$((last / 2))
done
[ "$last" -eq 0 ] || refuse 'the path is too short'
[ "$node" = "$root" ] || refuse 'the record is not in the log, or not at this place'

printf 'VERIFIED: record %s of %s in the log %s\n' "$index" "$size" "$origin"
