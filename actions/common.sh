# What both actions lean on: words to the runner, inputs, the cache's address. Sourced, not run.
#
# Plain POSIX shell, as macOS runners have an old bash and slim containers none. A secret reaches
# another program only through a file or a pipe: arguments and environments are open to a look at ps
# or /proc, hence `printf`, which is built in, wherever a secret is written.
# shellcheck shell=sh

set -eu
set +x # a traced script would print the secrets
umask 077

# say KIND WORDS: an annotation on the run's page (KIND: error, warning or notice), or plain words
# where no runner reads them. Format: GitHub Docs, "Workflow commands for GitHub Actions"; a runner
# reads them in both streams.
say() {
  if [ "${GITHUB_ACTIONS-}" = true ]; then
    printf '::%s title=narwharf::%s\n' "$1" "$2" >&2
  else
    printf 'narwharf: %s: %s\n' "$1" "$2" >&2
  fi
}

fail() {
  say error "$1"
  exit 1
}

# Lets the runner blot the secret $1 out of all logs of the job. Only a runner swallows that line;
# anywhere else it would be the leak.
mask() {
  if [ -n "$1" ] && [ "${GITHUB_ACTIONS-}" = true ]; then
    printf '::add-mask::%s\n' "$1"
  fi
}

# $1 without the blanks and line ends around it, which secrets pasted into a form often have.
trim() {
  trimmed=${1#"${1%%[![:space:]]*}"}
  printf '%s' "${trimmed%"${trimmed##*[![:space:]]}"}"
}

# Hands `NAME=VALUE` on to the steps that follow, unless this one came with it already.
export_to_job() {
  if eval "[ \"\${$1-}\" = \"\$2\" ]"; then
    return
  fi
  if [ -n "${GITHUB_ENV-}" ]; then
    printf '%s=%s\n' "$1" "$2" >>"$GITHUB_ENV"
  else
    printf "export %s='%s'\n" "$1" "$2"
  fi
}

# output NAME VALUE: an output of the step.
output() {
  if [ -n "${GITHUB_OUTPUT-}" ]; then
    printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"
  fi
}

# The address $1 as Nix wants it, and none that would break out of a line of nix.conf or netrc, show
# a password in the logs, or clash with the settings that `push` adds to it.
cache_url() {
  case $1 in
    '') fail "no address: set the input url, as in https://cache.example.org" ;;
    http://[!/]* | https://[!/]*) ;;
    *) fail "url must begin with http:// or https:// and a host" ;;
  esac
  case $1 in
    *[!]A-Za-z0-9._~:/%[-]*)
      fail "url may hold a host, a port and a path: no blanks, no '?', no login (that is the input token)"
      ;;
  esac
  bare=$1
  while [ "$bare" != "${bare%/}" ]; do bare=${bare%/}; done
  printf '%s' "$bare"
}

# The name by which a netrc knows the host of the address $1: no port, no brackets.
host_of() {
  host=${1#*://}
  host=${host%%/*}
  case $host in
    \[*) host=${host#\[} host=${host%%\]*} ;;
    *) host=${host%%:*} ;;
  esac
  printf '%s' "$host"
}

# The new command line is an experimental feature to this day.
nix_command() {
  nix --extra-experimental-features nix-command "$@"
}

command -v nix >/dev/null 2>&1 ||
  fail "there is no Nix on this runner: install it in a step before this one"
[ -d "${RUNNER_TEMP-}" ] ||
  fail "RUNNER_TEMP names no folder: a runner sets it to one that it empties after the job"
