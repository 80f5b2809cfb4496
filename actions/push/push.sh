#!/bin/sh
# Signs store paths with all they need, and copies to the cache what it lacks.
#
# One `nix copy` does both: it looks up what is there, signs what it sends, and logs in by the netrc
# that `setup` made. Nothing is tried again here, since up to 2.33.1 Nix cannot send a body twice; to
# see a failing bucket through is the gateway's work.

# shellcheck source=actions/common.sh
. "${0%/*}/../common.sh"

key=$(trim "${INPUT_SIGNING_KEY-}")
unset INPUT_SIGNING_KEY
mask "$key"

url=$(trim "${INPUT_URL-}")
url=$(cache_url "${url:-${NARWHARF_URL-}}")
case $key in
  *[[:space:]]*) fail "signing-key must be one line, as nix-store --generate-binary-cache-key writes it" ;;
  '' | ?*:?*) ;;
  *) fail "signing-key is not name:base64, as nix-store --generate-binary-cache-key writes it" ;;
esac
case ${INPUT_COMPRESSION:=zstd} in
  *[!a-z0-9]*) fail "compression must be a name that Nix knows, such as zstd, xz or none" ;;
esac
case ${INPUT_COMPRESSION_LEVEL-} in
  *[!0-9]*) fail "compression-level must be a number, or nothing for the default" ;;
esac
case ${INPUT_PARALLELISM-} in
  *[!0-9]* | 0) fail "parallelism must be a number above zero, or nothing for Nix's own" ;;
esac

work=$(mktemp -d "$RUNNER_TEMP/narwharf-push.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# How many lines the file $1 has.
count() {
  wc -l <"$1" | tr -d ' '
}

# The closure of what is asked for. The shell expands patterns here; one that fits nothing is left out.
find_closure() {
  set --
  for path in ${INPUT_PATHS-}; do
    case $path in
      -*) fail "paths: '$path' is no path" ;;
      *[*?[]*) continue ;;
    esac
    set -- "$@" "$path"
  done
  if [ $# -eq 0 ]; then
    fail "nothing to push: the input paths names no store path and no link to one"
  fi
  nix-store --query --requisites "$@" >"$work/closure" ||
    fail "not all of these are in the Nix store: $*"
}

# Leaves out what fits a pattern, and with it whatever needs that: a narinfo whose references the
# cache lacks is of no use to anybody, and Nix refuses to upload it.
leave_out_excluded() {
  : >"$work/matched"
  printf '%s\n' "${INPUT_EXCLUDE-}" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//; /^$/d' >"$work/patterns"
  if [ -s "$work/patterns" ]; then
    grep -E -f "$work/patterns" "$work/closure" >"$work/matched" ||
      [ $? -eq 1 ] || fail "exclude holds what is no extended regular expression"
  fi
  if [ -s "$work/matched" ]; then
    xargs nix-store --query --referrers-closure <"$work/matched" >"$work/without"
    grep -vxF -f "$work/without" "$work/closure" >"$work/paths" || [ $? -eq 1 ]
  else
    cp "$work/closure" "$work/paths"
  fi
}

# The address with the settings of this copy. A key's file may have any name, hence the escapes.
destination() {
  printf '%s?compression=%s&parallel-compression=true' "$url" "$INPUT_COMPRESSION"
  if [ -n "${INPUT_COMPRESSION_LEVEL-}" ]; then
    printf '&compression-level=%s' "$INPUT_COMPRESSION_LEVEL"
  fi
  if [ -n "$key" ]; then
    printf '%s' "$key" >"$work/key"
    printf '&secret-key='
    printf '%s' "$work/key" | sed 's/%/%25/g; s/ /%20/g; s/&/%26/g; s/#/%23/g; s/?/%3F/g; s/+/%2B/g'
  fi
}

# xargs, because thousands of paths fit no command line; each batch brings its own closure.
copy() {
  set -- copy --verbose --to "$(destination)"
  if [ -n "${INPUT_PARALLELISM-}" ]; then
    set -- "$@" --option http-connections "$INPUT_PARALLELISM"
  fi
  # A pipe ends as its last part does, so that the end of the first one goes through a file.
  {
    xargs nix --extra-experimental-features nix-command "$@" <"$work/paths" 2>&1 || echo failed >"$work/failed"
  } | tee "$work/log"
  if ! [ -e "$work/failed" ]; then
    return
  fi
  if grep -q 'HTTP error 403' "$work/log"; then
    fail "$url refuses the token (403): it is wrong, or may not write here"
  elif grep -q 'HTTP error 401' "$work/log"; then
    fail "$url wants a token (401): give one to the setup action"
  fi
  fail "nix copy failed; what it said stands above"
}

# Tells what the client says it sent; the rest was there.
report() {
  sed -n "s/^copying path '\(\/[^']*\)' .*to '.*/\1/p" "$work/log" | sort -u >"$work/pushed"
  pushed=$(count "$work/pushed")
  excluded=$(($(count "$work/closure") - $(count "$work/paths")))
  there=$(($(count "$work/paths") - pushed))
  words="$pushed pushed, $there there already, $excluded excluded"
  echo "narwharf: $words"
  output pushed "$pushed"
  if [ -n "${GITHUB_OUTPUT-}" ]; then
    { echo 'paths<<end of paths' && cat "$work/pushed" && echo 'end of paths'; } >>"$GITHUB_OUTPUT"
  fi
  if [ -n "${GITHUB_STEP_SUMMARY-}" ]; then
    summary >>"$GITHUB_STEP_SUMMARY"
  fi
}

# The first paths only: GitHub takes 1 MiB of summary for a step.
summary() {
  printf '### Pushed to %s\n\n%s\n' "$url" "$words"
  if [ "$pushed" -gt 0 ]; then
    printf '\n<details><summary>Paths</summary>\n\n```\n'
    head -n 1000 "$work/pushed"
    if [ "$pushed" -gt 1000 ]; then echo "and $((pushed - 1000)) more"; fi
    printf '```\n\n</details>\n'
  fi
}

find_closure
leave_out_excluded
: >"$work/log"
if [ -s "$work/paths" ]; then
  copy
fi
report
