#!/bin/sh
# Makes the rest of a job use the cache: substituter, trusted keys, and the login for `nix copy`.
#
# Everything lies in files below RUNNER_TEMP, which the runner empties, and NIX_USER_CONF_FILES makes
# Nix read them on top of what it reads anyway. So the next job on the same runner trusts nobody
# because of this one, and the token is gone with it. Only a Nix daemon that does not trust this user
# needs more: it reads no settings but the system's, which are then written, with sudo if need be.
#
# A cache that does not answer is no error, since builds can do without; a refused token is one.

# shellcheck source=actions/common.sh
. "${0%/*}/../common.sh"

set -f # words are split here, never taken for patterns

token=$(trim "${INPUT_TOKEN-}")
unset INPUT_TOKEN
mask "$token"

url=$(cache_url "$(trim "${INPUT_URL-}")")
host=$(host_of "$url")
keys=$(printf '%s' "${INPUT_PUBLIC_KEYS-}" | tr -s '[:space:]' ' ')
keys=$(trim "$keys")

for key in $keys; do
  case $key in
    ?*:?*) ;;
    *) fail "public-keys: '$key' is not name:base64" ;;
  esac
done
# A netrc separates its words by blanks, and curl reads quotes, backslashes and hashes in a way of
# its own, which changed over time.
case $token in
  *[![:graph:]]* | *[\"\\#]*)
    fail "the token holds a blank, a quote, a backslash, a hash or an unprintable character, which no netrc can carry"
    ;;
esac
case ${INPUT_CONFIG:-auto} in
  auto | job | system) ;;
  *) fail "config must be auto, job or system" ;;
esac

# What Nix does now, this action's earlier runs included. `show-config` was the name up to 2.19.
settings=$(nix_command config show 2>/dev/null || nix_command show-config 2>/dev/null) ||
  fail "Nix does not tell its settings; 'nix show-config' says why"

# The value of the setting $1.
setting() {
  printf '%s\n' "$settings" | sed -n "s/^$1 = //p"
}

files=$RUNNER_TEMP/narwharf
mkdir -p "$files"
name=$(printf '%s' "${url#*://}" | tr -c 'A-Za-z0-9.\n-' '_')

# Puts standard input into the file $1, whole or not at all; an equal file is left as it is.
replace() {
  cat >"$1.new"
  if cmp -s "$1.new" "$1"; then
    rm "$1.new"
  else
    mv "$1.new" "$1"
  fi
}

# Our login, then all logins of the netrc in use: Nix knows only one netrc. The first match wins.
write_netrc() {
  netrc=$(setting netrc-file)
  if [ -z "$token" ]; then
    return
  fi
  line="machine $host login narwharf password"
  {
    printf '%s %s\n' "$line" "$token"
    if [ -r "$netrc" ]; then
      grep -vF "$line " "$netrc" || true # none left
    elif [ -e "$netrc" ]; then
      say warning "$netrc is not readable here: the logins in it are not used in this job"
    fi
  } | replace "$files/netrc"
  netrc=$files/netrc
}

write_conf() {
  {
    echo "# narwharf's setup action wrote this."
    echo "extra-substituters = $url"
    if [ -n "$keys" ]; then echo "extra-trusted-public-keys = $keys"; fi
    if [ -n "$token" ]; then echo "netrc-file = $netrc"; fi
    if [ -n "${INPUT_EXTRA_CONF-}" ]; then printf '%s\n' "$INPUT_EXTRA_CONF"; fi
  } | replace "$conf"
}

# Asks the cache something cheap with the login that Nix will show.
try_login() {
  if ! command -v curl >/dev/null 2>&1; then
    echo "narwharf: no curl here: the login is not tried"
    return
  fi
  status=$(curl --disable --silent --output /dev/null --write-out '%{http_code}' --max-time 20 \
    --retry 2 --netrc-optional --netrc-file "$netrc" "$url/nix-cache-info") || status=000
  case $status/${token:+token} in
    200/*) ;;
    401/token | 403/token) fail "$url refuses the token ($status): is it the right one for this cache?" ;;
    401/ | 403/)
      say warning "$url wants a token to be read, and none is given: this job goes on without the cache"
      exit 0
      ;;
    *) say warning "$url does not answer as a cache does (status $status): Nix may go on without it" ;;
  esac
}

# Whether a daemon builds for us that takes no substituters from us: libstore/store-api.cc ("auto"),
# and trusted-users in the manual.
is_distrusted() {
  state=${NIX_STATE_DIR:-/nix/var/nix}
  case ${NIX_REMOTE:-auto} in
    auto) if [ -w "$state" ] || ! [ -S "$state/daemon-socket/socket" ]; then return 1; fi ;;
    daemon | unix:*) ;;
    *) return 1 ;;
  esac
  groups=$(id -Gn)
  for trusted in $(setting trusted-users); do
    case $trusted in
      '*' | "$(id -un)") return 1 ;;
      @*) case " $groups " in *" ${trusted#@} "*) return 1 ;; esac ;;
    esac
  done
}

use_in_job() {
  home=${XDG_CONFIG_HOME:-$HOME/.config}
  # What Nix reads when nothing is set; set to nothing, it reads nothing.
  others=${NIX_USER_CONF_FILES-$home:${XDG_CONFIG_DIRS:-/etc/xdg}}
  if [ -z "${NIX_USER_CONF_FILES+set}" ]; then
    others=$(printf '%s' "$others" | sed 's|:|/nix/nix.conf:|g; s|$|/nix/nix.conf|')
  fi
  case ":$others:" in
    *":$conf:"*) ;;
    *) export_to_job NIX_USER_CONF_FILES "$conf${others:+:$others}" ;;
  esac
  echo "narwharf: this job substitutes from $url"
}

use_in_system() {
  folder=${NIX_CONF_DIR:-/etc/nix}
  ours=$folder/narwharf-$name.conf
  include="!include $ours"
  if cmp -s "$conf" "$ours" && grep -qxF "$include" "$folder/nix.conf"; then
    echo "narwharf: this system substitutes from $url already"
    return
  fi
  sudo=
  if ! [ -w "$folder" ] || ! [ -w "$folder/nix.conf" ]; then
    sudo='sudo -n'
    $sudo true 2>/dev/null || fail "the Nix daemon does not trust $(id -un), and there is no sudo to write $folder: \
an administrator can add it to trusted-users, or the cache to $folder/nix.conf (then set config to job, for the login)"
  fi
  # Readable by all, as every client reads it; the token is not in it.
  if ! { $sudo cp "$conf" "$ours" && $sudo chmod 0644 "$ours"; }; then
    fail "cannot write $ours"
  fi
  if ! grep -qxF "$include" "$folder/nix.conf" 2>/dev/null; then
    printf '\n%s\n' "$include" | $sudo tee -a "$folder/nix.conf" >/dev/null ||
      fail "cannot write $folder/nix.conf"
  fi
  # A daemon reads its settings once, at its start.
  if command -v systemctl >/dev/null 2>&1; then
    $sudo systemctl restart nix-daemon.service
  else
    $sudo launchctl kickstart -k system/org.nixos.nix-daemon
  fi || say warning "the Nix daemon could not be restarted: it uses $url only after its next start"
  echo "narwharf: this system substitutes from $url"
}

write_netrc
try_login
conf=$files/$name.conf
write_conf
case ${INPUT_CONFIG:-auto} in
  job) use_in_job ;;
  system) use_in_system ;;
  auto) if is_distrusted; then use_in_system; else use_in_job; fi ;;
esac
export_to_job NARWHARF_URL "$url"
