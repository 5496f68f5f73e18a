# shellcheck shell=bash
# Debian's packages without a change to the machine: an apt that has lists, a status and a cache of its own, in a folder.
# Part of brokers.sh and kube-install.sh.

mirror() { # of this machine's own Debian release; --print-uris works before the first `apt-get update` too
  if [ -n "${QUORUMBRIDGE_DEBIAN_MIRROR:-}" ]; then printf '%s\n' "$QUORUMBRIDGE_DEBIAN_MIRROR"; return; fi
  local codename
  codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  apt-get --print-uris update 2>/dev/null | sed -n "s#^'\(.*\)/dists/$codename/InRelease'.*#\1#p" | head -n 1
}

apt_world() { # SUITE MIRROR FOLDER: an apt of its own
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed=""
  mkdir -p "$3"/{lists/partial,archives/partial,empty}
  : >"$3/status"
  [ ! -f "$keyring" ] || signed="[signed-by=$keyring] "
  printf 'deb %s%s %s main\n' "$signed" "$2" "$1" >"$3/sources.list"
  cat >"$3/apt.conf" <<CONF
Dir::Etc { sourcelist "$3/sources.list"; sourceparts "$3/empty"; preferences "$3/none"; preferencesparts "$3/empty"; };
Dir::State { lists "$3/lists"; status "$3/status"; extended_states "$3/extended"; };
Dir::Cache { archives "$3/archives"; pkgcache ""; srcpkgcache ""; };
Dir::Log "$3/log";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "4";
Acquire::http::Timeout "60";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
CONF
  export APT_CONFIG=$3/apt.conf
}
