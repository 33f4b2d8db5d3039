#!/bin/sh
# Verifies records of an enforcer audit log, offline, with a POSIX shell, openssl and xxd.
#
#   sh verify.sh [FOLDER] [KEY]        a bundle of evidence; by default the one that this script is in
#   sh verify.sh RECORD PROOF KEY      one record
#
# FOLDER  what `enforcer audit export` wrote
# RECORD  the record's bytes (record.leaf), or the JSON in them (record.json) beside record.leaf
# PROOF   its proof in the form of C2SP tlog-proof@v1 (record.tlog-proof)
# KEY     the log's public key, `origin+id+base64`, or a file with it. Have it from somebody you
#         trust: a key that came with the records only shows that they belong together.
#
# Ends with 0 when everything holds, with 7 when something does not, with 2 when it could not be
# verified. Accepts exactly one spelling of everything (RFC 6962, C2SP signed-note).

export LC_ALL=C
unset CDPATH

refuse() { printf 'REFUSED: %s\n' "$1" >&2; exit 7; }
unable() { printf 'NOT VERIFIED: %s\n' "$1" >&2; exit 2; }

usage='usage: sh verify.sh [FOLDER] [KEY], or sh verify.sh RECORD PROOF KEY'
for tool in openssl xxd; do
    command -v "$tool" >/dev/null 2>&1 || unable "$tool is not installed"
done
here=${0%/*}
[ "$here" != "$0" ] || here=.
case $# in
    0) folder=$here given='' ;;
    1) if [ -d "$1" ]; then folder=$1 given=''; else folder=$here given=$1; fi ;;
    2) folder=$1 given=$2 ;;
    3) folder='' given=$3
        [ -f "$1" ] && [ -r "$1" ] || unable "cannot read the record $1"
        [ -f "$2" ] && [ -r "$2" ] || unable "cannot read the proof $2" ;;
    *) unable "$usage" ;;
esac
case $#$given in [123]) [ $# -eq 1 ] && [ -d "$1" ] || refuse 'not a public key' ;; esac

umask 077
work=${TMPDIR:-/tmp}/verify-record.$$
mkdir "$work" || unable "cannot create $work"
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM

newline='
'
# Random bytes before the JSON of a record: they keep its hash from being guessed.
salt=16

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

# a key, `name+id+base64(kind || 32 bytes)`: name, id and public
read_key() {
    name=${1%%+*}
    rest=${1#*+}
    id=${rest%%+*}
    case $rest in *+*) ;; *) refuse 'not a public key' ;; esac
    [ "$1" = "$name+$rest" ] || refuse 'not a public key'
    public=$(unbase64 "${rest#*+}") || refuse 'not a public key'
    case $public in "$2"*) public=${public#"$2"} ;; *) refuse 'not a key of this kind' ;; esac
    [ ${#public} -eq 64 ] || refuse 'not an Ed25519 key'
    named=$( { printf '%s\n' "$name"; printf '%s%s' "$2" "$public" | xxd -r -p; } | sha256)
    [ "$id" = "${named%"${named#????????}"}" ] || refuse 'the id of the key does not belong to it'
}

# whether $2 is the signature of the key $1 over the file $3
signed() {
    [ ${#2} -eq 128 ] || return 1
    printf '%s' "$2" | xxd -r -p >"$work/signature"
    printf '302a300506032b6570032100%s' "$1" | xxd -r -p >"$work/key"
    openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$work/key" \
        -sigfile "$work/signature" -in "$3" >/dev/null 2>&1
}

# the head of the proof in the file $1, up to its empty line: index, path, head; leaves the rest on 3
read_proof() {
    index='' path='' head='' lines=0 part=header
    exec 3<"$1"
    while [ $part != note ]; do
        IFS= read -r line <&3 || refuse 'not a tlog-proof@v1'
        head="$head$line$newline"
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
                if [ -z "$line" ]; then part=note
                else
                    case $line in *[!A-Za-z0-9+/=]*) refuse 'not a hash in the path' ;; esac
                    # Neighbours share most of their paths.
                    case $decoded in
                        *" $line:"*) hash=${decoded#*" $line:"} hash=${hash%% *} ;;
                        *) hash=$(unbase64 "$line") && [ ${#hash} -eq 64 ] ||
                            refuse 'not a hash in the path' ;;
                    esac
                    path="$path $line:$hash"
                fi ;;
        esac
    done
    decoded="$path "
}

# the signed checkpoint in the file $1: size and root, once the log's key has signed it
read_checkpoint() {
    text='' size='' root='' signatures='' part=origin lines=0
    : >"$work/again"
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$work/again"
        lines=$((lines + 1))
        [ $lines -le 256 ] || refuse 'the checkpoint is too long'
        case $line in *[[:cntrl:]]*) refuse 'the checkpoint has bytes that are no text' ;; esac
        case $part in
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
                    '— '*' '*)
                        rest=${line#"— "}
                        bytes=$(unbase64 "${rest#* }") && [ ${#bytes} -ge 8 ] || refuse 'not a signature'
                        signatures="$signatures${rest%% *} $bytes$newline" ;;
                    *) refuse 'not a signature' ;;
                esac ;;
        esac
        case $part in
            size | root | text) text="$text$line$newline" ;;
        esac
    done <"$1"
    [ "$(sha256 <"$work/again")" = "$(sha256 <"$1")" ] ||
        refuse 'the checkpoint has bytes that are no text'
    [ "$part" = signatures ] || refuse 'not signed by this key'
    printf '%s' "$text" >"$work/text"
    found=''
    printf '%s' "$signatures" >"$work/signatures"
    while IFS=' ' read -r signer bytes; do
        case "$signer $bytes" in
            "$origin $key_id"*)
                signed "$key" "${bytes#"$key_id"}" "$work/text" ||
                    refuse 'the signature does not fit the checkpoint'
                found=yes ;;
        esac
    done <"$work/signatures"
    [ -n "$found" ] || refuse 'not signed by this key'
}

# climbs the path from node, the leaf $1 of $2, and leaves in node where it ends (RFC 9162, 2.1.3.2)
climb() {
    [ "$1" -lt "$2" ] || refuse "$3 is behind the end"
    place=$1
    last=$(($2 - 1))
    climbed=' '
    for sibling in $path; do
        sibling=${sibling##*:}
        [ "$last" -gt 0 ] || refuse "the path of $3 is too long"
        if [ $((place % 2)) -eq 1 ] || [ "$place" -eq "$last" ]; then
            pair=$sibling$node
            while [ $((place % 2)) -eq 0 ]; do
                place=$((place / 2)) last=$((last / 2))
            done
        else
            pair=$node$sibling
        fi
        case $hashed in
            *" $pair="*) node=${hashed#*" $pair="} node=${node%% *} ;;
            *) node=$(printf '01%s' "$pair" | xxd -r -p | sha256) ;;
        esac
        climbed="$climbed$pair=$node "
        place=$((place / 2)) last=$((last / 2))
    done
    hashed=$climbed
    [ "$last" -eq 0 ] || refuse "the path of $3 is too short"
}

# whether the path leads from the record in the file $1 to the root
check_path() {
    node=$( { printf '\000'; cat <"$1"; } | sha256)
    climb "$index" "$size" "record $index"
    [ "$node" = "$root" ] || refuse "record $index is not in the log, or not at this place"
}

# ---- the key

own=''
if [ -z "$given" ]; then given=$folder/key.pub own=yes; fi
if [ -f "$given" ]; then IFS= read -r line <"$given" || refuse 'the key file is not one line'
elif [ -n "$own" ]; then unable "there is no bundle in $folder"
else line=$given
fi
read_key "$line" 01
origin=$name key_id=$id key=$public whole_key=$line
decoded=' ' hashed=' '

# ---- one record

if [ -z "$folder" ]; then
    read_proof "$2"
    cat <&3 >"$work/note"
    exec 3<&-
    [ "$( { printf '%s' "$head"; cat "$work/note"; } | sha256)" = "$(sha256 <"$2")" ] ||
        refuse 'the proof has bytes that are no text'
    read_checkpoint "$work/note"
    record=$1
    case $1 in
        *.json)
            if [ -f "${1%.json}.leaf" ]; then
                record=${1%.json}.leaf
                [ "$(tail -c +$((salt + 1)) "$record" | sha256)" = "$(sha256 <"$1")" ] ||
                    refuse "$1 is not the JSON in $record"
            fi ;;
    esac
    check_path "$record"
    printf 'VERIFIED: record %s of %s in the log %s\n' "$index" "$size" "$origin"
    exit 0
fi

# ---- a bundle: first that every file is there as it was written, and no other

[ -f "$folder/MANIFEST" ] || unable "there is no bundle in $folder"
[ -z "$(find "$folder" ! -type f ! -type d)" ] || refuse 'there is something that is no file'
# the hashes of the files in batch, whose names are known to be plain
hash_batch() {
    [ -n "$batch" ] || return 0
    # shellcheck disable=SC2086
    (cd "$folder" && openssl dgst -sha256 -r $batch) >>"$work/hashed" || unable 'openssl cannot hash'
    batch=''
}

files=0 batch=''
: >"$work/manifest" >"$work/listed" >"$work/hashed"
while IFS= read -r line; do
    printf '%s\n' "$line" >>"$work/manifest"
    files=$((files + 1))
    hash=${line%%  *}
    file=${line#*  }
    [ "$line" = "$hash  $file" ] && [ ${#hash} -eq 64 ] || refuse 'MANIFEST is not a list of hashes'
    case $hash in *[!0-9a-f]*) refuse 'MANIFEST is not a list of hashes' ;; esac
    name=${file##*/}
    case $file in
        *[!A-Za-z0-9./-]*) refuse 'MANIFEST has an odd name' ;;
        README.txt | verify.sh | selection | key.pub | witnesses.pub) ;;
        checkpoint | checkpoint.tsr) ;;
        records.jsonl | readable.jsonl | context.jsonl | clock.jsonl | programs.jsonl | policies.jsonl) ;;
        records/*/* | context/*/* | policies/*/* | completeness/*/*) refuse "$file has no place in a bundle" ;;
        records/*.leaf | context/*.leaf) name=${name%.leaf} ;;
        records/*.tlog-proof | context/*.tlog-proof) name=${name%.tlog-proof} ;;
        completeness/*.index-proof) name=${name%.index-proof} ;;
        policies/*.toml)
            [ "$name" = "$hash.toml" ] || refuse "$file is not the policy of its name" ;;
        *) refuse "$file has no place in a bundle" ;;
    esac
    case $file in
        records/* | context/* | completeness/*)
            case $name in *[!0-9]*) refuse "$file has no place in a bundle" ;; esac
            [ ${#name} -eq 20 ] || refuse "$file has no place in a bundle" ;;
    esac
    [ -f "$folder/$file" ] || refuse "$file is missing"
    printf '%s *%s\n' "$hash" "$file" >>"$work/listed"
    batch="$batch $file"
    [ $((files % 256)) -ne 0 ] || hash_batch
done <"$folder/MANIFEST"
hash_batch
if [ "$(sha256 <"$work/listed")" != "$(sha256 <"$work/hashed")" ]; then
    while IFS= read -r line; do
        file=${line#*  }
        [ "$(sha256 <"$folder/$file")" = "${line%%  *}" ] || refuse "$file was altered"
    done <"$work/manifest"
    unable 'openssl hashes many files in another way than one'
fi
[ "$(sha256 <"$work/manifest")" = "$(sha256 <"$folder/MANIFEST")" ] ||
    refuse 'MANIFEST has bytes that are no text'
cut -c 67- "$work/manifest" | sort -cu >/dev/null 2>&1 || refuse 'MANIFEST is not in order'
find "$folder" -type f >"$work/found"
[ $(($(wc -l <"$work/found"))) -eq $((files + 1)) ] || refuse 'there is a file that MANIFEST does not list'
for file in README.txt verify.sh selection checkpoint key.pub records.jsonl context.jsonl; do
    [ -f "$folder/$file" ] || refuse "$file is missing"
done
printf '%s\n' "$whole_key" >"$work/key.pub"
[ "$(sha256 <"$work/key.pub")" = "$(sha256 <"$folder/key.pub")" ] ||
    refuse 'the bundle is of another key'

# ---- what it says it holds

what='' size_told='' from='' to='' since='' until='' told='' context='' made='' step=0
: >"$work/again"
while IFS= read -r line; do
    printf '%s\n' "$line" >>"$work/again"
    value=${line#* }
    case "$step $line" in
        '0 enforcer-bundle/1') step=1 ;;
        '1 log '*) [ "$value" = "$origin" ] || refuse 'the bundle is of another log'; step=2 ;;
        '2 size '*) size_told=$value step=3 ;;
        '3 what numbers' | '3 what everything' | '3 what trail '?*) what=$value step=4 ;;
        '4 from '*) from=$value step=5 ;;
        '5 to '*) to=$value step=6 ;;
        '6 since '*) since=$value step=7 ;;
        [67]' until '*) until=$value step=8 ;;
        [678]' records '*) told=$value step=9 ;;
        '9 context '*) context=$value step=10 ;;
        '10 made '*) made=$value step=11 ;;
        *) refuse 'the selection is not understood' ;;
    esac
done <"$folder/selection"
[ $step -eq 11 ] && [ "$(sha256 <"$work/again")" = "$(sha256 <"$folder/selection")" ] ||
    refuse 'the selection is not understood'
for value in "$size_told" "$from" "$to" "$told" "$context"; do
    number "$value" || refuse 'the selection has a number that is none'
done
for value in "$since" "$until" "$made"; do
    case $value in
        '' | [0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z) ;;
        *) refuse 'the selection has a time that is none' ;;
    esac
done
[ -n "$made" ] || refuse 'the selection is not understood'
[ "$from" -le "$to" ] && [ "$to" -le "$size_told" ] || refuse 'the selection ends before it begins'

# ---- the checkpoint, and who else has signed it

read_checkpoint "$folder/checkpoint"
# The text of it is plain: no byte is lost in a variable but the newline at its end.
checkpoint=$(cat "$folder/checkpoint")$newline
[ "$size" = "$size_told" ] || refuse 'the selection is of another checkpoint'
if [ -f "$folder/witnesses.pub" ]; then
    : >"$work/again"
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$work/again"
        read_key "$line" 04
        cosigned=''
        while IFS=' ' read -r signer bytes; do
            case "$signer $bytes" in
                "$name $id"????????????????*)
                    bytes=${bytes#"$id"}
                    rest=${bytes#????????????????}
                    case $bytes in [89a-f]*) refuse "the cosignature of $name has no time" ;; esac
                    time=$((0x${bytes%"$rest"}))
                    [ "$time" -gt 0 ] || refuse "the cosignature of $name has no time"
                    { printf 'cosignature/v1\ntime %s\n' "$time"; cat "$work/text"; } >"$work/cosigned"
                    signed "$public" "$rest" "$work/cosigned" ||
                        refuse "the cosignature of $name does not fit the checkpoint"
                    cosigned=$time ;;
            esac
        done <"$work/signatures"
        [ -n "$cosigned" ] || refuse "the cosignature of $name is missing"
        printf 'witnessed: %s saw the log with %s records, %s s after 1970\n' "$name" "$size" "$cosigned"
    done <"$folder/witnesses.pub"
    [ "$(sha256 <"$work/again")" = "$(sha256 <"$folder/witnesses.pub")" ] ||
        refuse 'witnesses.pub has bytes that are no text'
fi

# The signature of the authority needs its certificate: README.txt says how.
if [ -f "$folder/checkpoint.tsr" ]; then
    stamped=$(xxd -p -c 256 <"$folder/checkpoint.tsr") || unable 'xxd cannot read checkpoint.tsr'
    hash=$(sha256 <"$folder/checkpoint")
    case $(printf '%s' "$stamped" | tr -d '\n') in
        *"$hash"*) ;;
        *) refuse 'the timestamp is of another checkpoint' ;;
    esac
fi

# ---- every record, with its proof, its readable form and its place

# the JSON of the record in the file $1
json_of() {
    json=$(tail -c +$((salt + 1)) "$1")
}

# the time of the record in the file $1
time_of() {
    json_of "$1"
    time=${json#*'"time":"'}
    time=${time%%'"'*}
}

# every record in the folder $1: count, and its readable form in the file $2
check_records() {
    count=0 pending=''
    : >"$2"
    while IFS= read -r line; do
        file=${line#*  }
        case $file in "$1"/*) ;; *) continue ;; esac
        name=${file##*/}
        case $name in
            *.leaf)
                [ -z "$pending" ] || refuse "record $pending in $1 has no proof"
                pending=${name%.leaf}
                continue ;;
        esac
        [ "$name" = "$pending.tlog-proof" ] || refuse "$file has no record"
        listed=${line%%  *}
        leaf=$folder/$1/$pending.leaf
        pending=''
        proof=$file
        read_proof "$folder/$proof"
        exec 3<&-
        [ "$(printf '%s%s' "$head" "$checkpoint" | sha256)" = "$listed" ] ||
            refuse "$proof does not lead to the checkpoint"
        digits=$index
        while [ ${#digits} -lt 20 ]; do digits=0$digits; done
        [ "$digits.tlog-proof" = "$name" ] || refuse "$proof is of another record"
        check_path "$leaf"
        tail -c +$((salt + 1)) "$leaf" >>"$2"
        printf '\n' >>"$2"
        count=$((count + 1))
        if [ "$1" = records ]; then
            case $what in
                numbers) ;;
                everything)
                    [ "$index" -eq $((from + count - 1)) ] ||
                        refuse "record $((from + count - 1)) is missing" ;;
                *)
                    [ "$index" -ge "$from" ] && [ "$index" -lt "$to" ] ||
                        refuse "record $index is not of the selection" ;;
            esac
        fi
    done <"$work/manifest"
    [ -z "$pending" ] || refuse "record $pending in $1 has no proof"
    [ "$(sha256 <"$2")" = "$(sha256 <"$folder/$1.jsonl")" ] ||
        refuse "$1.jsonl does not say what the records say"
}

check_records context "$work/context"
[ "$count" -eq "$context" ] || refuse 'the selection has another number of records around it'
check_records records "$work/records"
[ "$count" -eq "$told" ] || refuse 'the selection has another number of records'
[ "$what" != everything ] || [ "$count" -eq $((to - from)) ] || refuse "record $((from + count)) is missing"

# ---- that a span of time was not cut short: the records beside it are outside

# the time of record $1, which is beside the selection
time_beside() {
    digits=$1
    while [ ${#digits} -lt 20 ]; do digits=0$digits; done
    [ -f "$folder/context/$digits.leaf" ] || refuse "record $1, beside the selection, is missing"
    time_of "$folder/context/$digits.leaf"
}

if [ "$what" != numbers ]; then
    if [ "$from" -gt 0 ]; then
        [ -n "$since" ] || refuse 'the selection begins late'
        time_beside $((from - 1))
        expr "x$time" '<' "x$since" >/dev/null || refuse 'the selection begins late'
    fi
    if [ "$to" -lt "$size" ]; then
        [ -n "$until" ] || refuse 'the selection ends early'
        time_beside "$to"
        expr "x$time" '>=' "x$until" >/dev/null || refuse 'the selection ends early'
    fi
fi

# ---- that no record of a trail was withheld: the index of each segment, which the log vouches for

# the IPv4 network $1 of $2 bits, its other bits zero
network4() {
    rest=$1
    a=${rest%%.*} rest=${rest#*.}
    b=${rest%%.*} rest=${rest#*.}
    c=${rest%%.*} d=${rest#*.}
    for part in "$a" "$b" "$c" "$d"; do
        number "$part" && [ "$part" -le 255 ] || refuse 'the selection is not understood'
    done
    bits=$(((a << 24 | b << 16 | c << 8 | d) & (4294967295 << (32 - $2)) & 4294967295))
    printf '%d.%d.%d.%d/%d' $((bits >> 24)) $((bits >> 16 & 255)) $((bits >> 8 & 255)) $((bits & 255)) "$2"
}

# the IPv6 network $1 of $2 bits, written as RFC 5952 says
network6() {
    case $1 in
        *[!0-9a-f:]* | *:::* | *::*::* ) refuse 'the selection is not understood' ;;
        *::*)
            front=${1%%::*} back=${1#*::}
            groups='' missing=8
            IFS=:
            for part in $front $back; do missing=$((missing - 1)); done
            for part in $front; do groups="$groups $part"; done
            while [ "$missing" -gt 0 ]; do groups="$groups 0" missing=$((missing - 1)); done
            for part in $back; do groups="$groups $part"; done
            unset IFS ;;
        *)
            groups=''
            IFS=:
            for part in $1; do groups="$groups $part"; done
            unset IFS ;;
    esac
    left=$2 masked='' count=0
    for part in $groups; do
        count=$((count + 1))
        [ ${#part} -le 4 ] || refuse 'the selection is not understood'
        kept=$left
        [ "$kept" -le 16 ] || kept=16
        left=$((left - kept))
        masked="$masked $((0x$part & (65535 << (16 - kept)) & 65535))"
    done
    [ "$count" -eq 8 ] || refuse 'the selection is not understood'
    # the first of the longest runs of zeroes
    place=0 run=0 best=1 begins=8
    for part in $masked; do
        place=$((place + 1))
        if [ "$part" -eq 0 ]; then run=$((run + 1)); else run=0; fi
        if [ "$run" -gt "$best" ]; then best=$run begins=$((place - run)); fi
    done
    text='' place=0
    for part in $masked; do
        if [ "$place" -eq "$begins" ]; then text="$text::"
        elif [ "$place" -gt "$begins" ] && [ "$place" -lt $((begins + best)) ]; then :
        else
            case $text in '' | *:) ;; *) text="$text:" ;; esac
            text=$text$(printf '%x' "$part")
        fi
        place=$((place + 1))
    done
    printf '%s/%d' "$text" "$2"
}

# the names under which an index keeps what the selection wants, `kind name` a line, in their order;
# $1 and $2 are the lengths of the networks that the segment knows
names() {
    selector=${what#trail }
    value=${selector#*:}
    case $selector in
        fingerprint:*) printf 'fingerprint %s\n' "$value" ;;
        incident:INC-*) printf 'incident %s\n' "$value" ;;
        incident:*) printf 'incident %s\nincident change\n' "$value" ;;
        key:*) printf 'key %s\n' "$value" ;;
        principal:key:*)
            value=${value#key:}
            case $value in
                *[!A-Za-z0-9]*) printf 'principal key:%s\n' "$value" ;;
                ????????????) printf 'key %s\n' "$value" ;;
                *) printf 'principal key:%s\n' "$value" ;;
            esac ;;
        principal:*) printf 'principal %s\n' "$value" ;;
        request:*) printf 'request %s\n' "$value" ;;
        route:*) printf 'route %s\n' "$value" ;;
        rule:*) printf 'rule %s\n' "$value" ;;
        token:*) printf 'token %s\n' "$value" ;;
        B-*) printf 'block %s\n' "$selector" ;;
        D-* | F-*) printf 'incident %s\n' "$selector" ;;
        *.*.*.* | *:*)
            address=${selector%/*}
            case $address in
                *:*) family=6 whole=128 lengths=$2 rungs='128 64 48 32' ;;
                *) family=4 whole=32 lengths=$1 rungs='32 24 16 8' ;;
            esac
            case $selector in */*) length=${selector#*/} ;; *) length=$whole ;; esac
            number "$length" && [ "$length" -le "$whole" ] || refuse 'the selection is not understood'
            for shorter in $lengths; do
                [ "$shorter" -ge "$length" ] || printf 'network %s\n' "$(network$family "$address" "$shorter")"
            done | sort
            for rung in $rungs; do
                if [ "$rung" -le "$length" ]; then
                    printf 'place %s\n' "$(network$family "$address" "$rung")"
                    break
                fi
            done ;;
        *)
            [ ${#selector} -eq 32 ] || refuse 'the selection is not understood'
            printf 'fingerprint %s\nrequest %s\n' "$selector" "$selector" ;;
    esac
}

# the value of the field $1 in the statement
field() {
    value=${statement#*"\"$1\":"}
    [ "$value" != "$statement" ] || refuse "the statement about a segment has no $1"
    value=${value%%[],\}]*}
    value=${value#[}
    value=${value#'"'}
    value=${value%'"'}
}

# the list of numbers in the field $1 of the statement
list() {
    value=${statement#*"\"$1\":["}
    [ "$value" != "$statement" ] || refuse "the statement about a segment has no $1"
    value=$(printf '%s' "${value%%]*}" | tr ',' ' ')
    case $value in *[!0-9\ ]*) refuse "the statement about a segment has no $1" ;; esac
}

# reads the next line of the proof
next() {
    IFS= read -r line <&3 || { line='' ended=yes; return 0; }
    all="$all$line$newline"
}

# the hashes that follow, as a path
read_path() {
    path='' count=0
    while [ -z "$ended" ] && [ ${#line} -eq 44 ]; do
        case $line in *\ *) break ;; esac
        count=$((count + 1))
        [ "$count" -le 40 ] || refuse "$proof has too long a path"
        hash=$(unbase64 "$line") && [ ${#hash} -eq 64 ] || refuse "$proof has a hash that is none"
        path="$path $line:$hash"
        next
    done
}

# whether the entry $1, of the name $2 and the records $3, is in the index that the log vouches for
entry() {
    node=$(printf '00%s%s' "$2" "$3" | xxd -r -p | sha256)
    climb "$1" "$entries" "an entry of $proof"
    [ "$node" = "$index_root" ] || refuse "$proof names an entry that the log does not vouch for"
}

# one side of where a name is not: at, id
read_beside() {
    at='' id=''
    case $line in "$1 "*) ;; *) return 0 ;; esac
    rest=${line#* }
    at=${rest%% *} rest=${rest#* }
    id=${rest%% *}
    number "$at" && [ ${#id} -eq 10 ] || refuse "$proof is not in the form of a proof"
    case $id in *[!0-9a-f]*) refuse "$proof is not in the form of a proof" ;; esac
    beside=$(unbase64 "${rest#* }") && [ ${#beside} -eq 64 ] || refuse "$proof is not in the form of a proof"
    next
    read_path
    entry "$at" "$id" "$beside"
}

# the claim about the name that the index calls $1
claim() {
    case $line in
        'present '*)
            rest=${line#present }
            at=${rest%% *}
            number "$at" || refuse "$proof is not in the form of a proof"
            nonce=$(unbase64 "${rest#* }") && [ ${#nonce} -eq 32 ] || refuse "$proof is not in the form of a proof"
            next
            case $line in 'records '?*) ;; *) refuse "$proof is not in the form of a proof" ;; esac
            numbers=${line#records }
            case $numbers in *\ \ * | \ * | *\ ) refuse "$proof is not in the form of a proof" ;; esac
            previous=-1
            for found in $numbers; do
                number "$found" && [ "$found" -gt "$previous" ] && [ "$found" -ge "$first" ] &&
                    [ "$found" -lt "$end" ] || refuse "$proof has records out of place"
                previous=$found
                printf '%016x' "$found"
            done >"$work/numbers" || exit
            committed=$( { printf '%s' "$nonce"; cat "$work/numbers"; } | xxd -r -p | sha256)
            next
            read_path
            entry "$at" "$1" "$committed"
            for found in $numbers; do
                [ "$found" -ge "$from" ] && [ "$found" -lt "$to" ] || continue
                digits=$found
                while [ ${#digits} -lt 20 ]; do digits=0$digits; done
                [ -f "$folder/records/$digits.leaf" ] || [ -f "$folder/context/$digits.leaf" ] ||
                    refuse "record $found, which the log names for the selection, is missing"
            done ;;
        absent)
            next
            read_beside before
            before=$at
            [ -z "$id" ] || expr "x$id" '<' "x$1" >/dev/null || refuse "$proof is about another name"
            read_beside after
            [ -z "$id" ] || expr "x$1" '<' "x$id" >/dev/null || refuse "$proof is about another name"
            case $before,$at in
                ,) [ "$entries" -eq 0 ] ;;
                ,*) [ "$at" -eq 0 ] ;;
                *,) [ $((before + 1)) -eq "$entries" ] ;;
                *) [ $((before + 1)) -eq "$at" ] ;;
            esac || refuse "$proof leaves something out" ;;
        *) refuse "$proof is not in the form of a proof" ;;
    esac
}

# what the file of a segment proves; reached is how far the ones before went
check_segment() {
    all='' ended=''
    exec 3<"$folder/$proof"
    next
    [ "$line" = 'enforcer-index-proof/1' ] || refuse "$proof is not in the form of a proof"
    next
    first=${line#segment } end=${line##* }
    first=${first%% *}
    [ "$line" = "segment $first $end" ] && number "$first" && number "$end" ||
        refuse "$proof is not in the form of a proof"
    digits=$first
    while [ ${#digits} -lt 20 ]; do digits=0$digits; done
    [ "$proof" = "completeness/$digits.index-proof" ] || refuse "$proof is of another segment"
    if [ -n "$segments" ]; then [ "$first" -eq "$reached" ]; else [ "$first" -le "$reached" ]; fi &&
        [ "$end" -gt "$reached" ] && [ "$reached" -lt "$to" ] || refuse "$proof is misplaced"
    segments=yes reached=$end
    next
    if [ "$line" = uncovered ]; then
        next
        [ -n "$ended" ] || refuse "$proof is not in the form of a proof"
        begins=$first ends=$end
        [ "$begins" -ge "$from" ] || begins=$from
        [ "$ends" -le "$to" ] || ends=$to
        printf 'NOT PROVEN COMPLETE: records %s to before %s\n' "$begins" "$ends" >>"$work/uncovered"
    else
        covered=yes
        index=${line#statement }
        [ "$line" = "statement $index" ] && number "$index" || refuse "$proof is not in the form of a proof"
        digits=$index
        while [ ${#digits} -lt 20 ]; do digits=0$digits; done
        if [ -f "$folder/context/$digits.leaf" ]; then json_of "$folder/context/$digits.leaf"
        elif [ -f "$folder/records/$digits.leaf" ]; then json_of "$folder/records/$digits.leaf"
        else refuse "record $index, which vouches for a segment, is missing"
        fi
        statement=${json#*'"class":"segment","body":'}
        case ${json%"$statement"} in
            *'"class":"segment","body":') ;;
            *) refuse "record $index vouches for no segment" ;;
        esac
        field first
        [ "$value" = "$first" ] || refuse "record $index is about another segment"
        field end
        [ "$value" = "$end" ] || refuse "record $index is about another segment"
        field keys
        entries=$value
        number "$entries" || refuse "record $index has no number of entries"
        field index_root
        index_root=$value
        list v4
        lengths4=$value
        list v6
        lengths6=$value
        keys=' '
        next
        : >"$work/handles"
        while case $line in 'handle '*) [ -z "$ended" ] ;; *) false ;; esac; do
            value=${line#handle }
            case $value in '~'???????????) ;; *) refuse "$proof has a handle that is none" ;; esac
            case ${value#'~'} in *[!A-Za-z0-9_-]*) refuse "$proof has a handle that is none" ;; esac
            printf 'handle %s\n' "$value" >>"$work/handles"
            next
        done
        while case $line in 'key '*) [ -z "$ended" ] ;; *) false ;; esac; do
            rest=${line#key }
            kind=${rest%% *}
            case $kind in '' | *[!a-z]*) refuse "$proof has a key that is none" ;; esac
            name_key=$(unbase64 "${rest#* }") && [ ${#name_key} -eq 64 ] || refuse "$proof has a key that is none"
            kinds=${statement#*'"kinds":'}
            case $kinds in
                *"\"$kind\":\"$(printf '%s' "$name_key" | xxd -r -p | sha256)\""*) ;;
                *) refuse "$proof has a key that the log does not vouch for" ;;
            esac
            keys="$keys$kind=$name_key "
            next
        done
        names "$lengths4" "$lengths6" >"$work/plain" || exit
        sort -u "$work/handles" >"$work/sorted"
        case $what in
            'trail B-'*) cat "$work/plain" "$work/sorted" ;;
            *) cat "$work/sorted" "$work/plain" ;;
        esac >"$work/names"
        while IFS= read -r wanted <&4; do
            kind=${wanted%% *} name=${wanted#* }
            [ -z "$line" ] && [ -z "$ended" ] || refuse "$proof leaves something out"
            next
            case $keys in
                *" $kind="*) name_key=${keys#*" $kind="} name_key=${name_key%% *} ;;
                *) refuse "$proof has no key for a $kind" ;;
            esac
            named=$(printf '%s' "$name" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$name_key" -r) ||
                unable 'openssl cannot hash with a key'
            named=${named%% *}
            claim "${named%"${named#??????????}"}"
        done 4<"$work/names"
        [ -n "$ended" ] || refuse "$proof says more than it should"
    fi
    exec 3<&-
    [ "$(printf '%s' "$all" | sha256)" = "$(sha256 <"$folder/$proof")" ] ||
        refuse "$proof has bytes that are no text"
}

reached=$from segments='' covered=''
: >"$work/uncovered"
while IFS= read -r entry; do
    proof=${entry#*  }
    case $proof in completeness/*) ;; *) continue ;; esac
    case $what in trail*) ;; *) refuse 'a proof of completeness has no place in this bundle' ;; esac
    check_segment
done <"$work/manifest"
case $what in
    trail*) [ "$reached" -ge "$to" ] || refuse "nothing is said about the records from $reached on" ;;
esac

printf 'VERIFIED: %s records of %s in the log %s\n' "$told" "$size" "$origin"
case $what in
    everything) printf 'COMPLETE: every record from %s to before %s\n' "$from" "$to" ;;
    numbers) printf 'CHOSEN: nothing is said about other records\n' ;;
    *)
        if [ -s "$work/uncovered" ]; then
            cat "$work/uncovered"
            [ -z "$covered" ] || printf 'COMPLETE otherwise: every other record of %s from %s to before %s\n' \
                "${what#trail }" "$from" "$to"
        else printf 'COMPLETE: every record of %s from %s to before %s\n' "${what#trail }" "$from" "$to"
        fi ;;
esac
[ -z "$own" ] || printf 'The key came with the bundle. Compare it with one from elsewhere: %s\n' "$whole_key"
