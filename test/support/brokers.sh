#!/usr/bin/env bash
# Real RabbitMQ servers for the demo and the tests. See `brokers.sh --help`.
#
# With Debian packages: `install` lets apt (own lists, own empty dpkg status, the machine's own mirror) fetch
# rabbitmq-server and all below it, and unpacks the packages into a folder of the cache. No maintainer script runs
# and nothing on the machine changes. A node runs in that tree by unshare (private mounts) and chroot.
# With a Docker engine (no root, or QUORUMBRIDGE_BROKERS=docker): the official images on the host's network.
set -euo pipefail
export LC_ALL=C

CACHE=${QUORUMBRIDGE_CACHE:-$HOME/.cache/quorumbridge}
RUN=$CACHE/run
START_TIMEOUT=${QUORUMBRIDGE_START_TIMEOUT:-120}
VERSIONS="3.10 4.0 4.3"
CLIENTS="amqp-tools kombu oslo pika"

usage() {
  cat <<'HELP'
brokers.sh - real RabbitMQ servers, side by side, on loopback, and clients for them

usage:
  brokers.sh install NAME...     fetch into the cache; NAME: a VERSION (3.10 4.0 4.3) or a CLIENT (amqp-tools: the C
                                 tools, kombu: with Celery, oslo: oslo.messaging, pika)
  brokers.sh check NAME          exit 0: in the cache (or an image); 1: can be fetched; 3: not possible here (says why)
  brokers.sh start VERSION [--conf FILE] [--advanced FILE] [--plugins NAME,...] [--join PORT]
                                 start a node, in the cluster of the one on PORT; prints its line and returns when AMQP
                                 and management answer
  brokers.sh run VERSION [same]  the same, then obeys stdin: `restart` (files read again) prints a new line, `replace`
                                 the same with empty storage, `kill` ends the node at once until then and prints `killed`,
                                 `detach` leaves the node running, end of input kills it and deletes its data
  brokers.sh stop PORT...|--all  stop nodes and delete their data
  brokers.sh ctl PORT ARGS...    rabbitmqctl
  brokers.sh log PORT [LINES]    the end of the node's log; LINES: 60, +1 is all of it
  brokers.sh client CLIENT PROGRAM ARG...
                                 run a Python program (PROGRAM.py, which sees its folder) or a command of that client
  brokers.sh status              what is in the cache and what runs

Plugins come besides rabbitmq_management.
Files: rabbitmq.conf lines (a key there replaces the script's own) and an advanced.config. In the former
@AMQP@ @AMQPS@ @BACKEND@ @MANAGEMENT@ become the node's ports and @FILES@ the folder of FILE as the node sees it.
A node has ten ports: PORT (amqp), +1 (amqps), +2 (behind a proxy), +3 (management), +4 to +9 (Erlang).
The node that others join has to outlive them: its epmd is theirs, too. No cluster with a Docker engine.
RabbitMQ 4.3 denies transient non-exclusive queues, as upstream ships it (Debian's package permits them).

environment:
  QUORUMBRIDGE_CACHE           where all is kept (default ~/.cache/quorumbridge)
  QUORUMBRIDGE_BROKERS         packages or docker (default: packages on a machine with apt, as root or with user namespaces)
  QUORUMBRIDGE_DEBIAN_MIRROR   another mirror than the one of this machine's apt (needed on Ubuntu)
  QUORUMBRIDGE_START_TIMEOUT   seconds to wait for a node (default 120)

exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong usage, 3 not possible on this machine.
HELP
}

say() { printf '%s\n' "$*" >&2; }
die() { printf 'brokers.sh: %s\n' "$*" >&2; exit 1; }
bad() { printf "brokers.sh: %s (see 'brokers.sh --help')\n" "$*" >&2; exit 2; }

PATH=$PATH:/usr/sbin:/sbin # chroot is there, and not every user looks there
# Not root: be it in a user namespace of one's own, where the system permits that. Nothing outside of it changes.
if [ "$(id -u)" != 0 ] && unshare --user --map-root-user --mount --uts -- true 2>/dev/null; then
  exec unshare --user --map-root-user -- "${BASH_SOURCE[0]}" "$@"
fi

# ------------------------------------------------------------- what is possible ---

impossible() { # why packages cannot be used here; empty when they can
  local tool
  [ "$(id -u)" = 0 ] || { echo "it needs root or user namespaces (for chroot and mounts)"; return; }
  for tool in apt-get apt-cache dpkg-deb tar unshare chroot flock perl; do
    command -v "$tool" >/dev/null 2>&1 || { echo "the command '$tool' is missing"; return; }
  done
  unshare --mount --uts -- true 2>/dev/null || echo "mount namespaces are not permitted (CAP_SYS_ADMIN)"
}
docker_runs() { [ "$(uname)" = Linux ] && command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1; }

choose_driver() { # sets DRIVER
  local why
  case "${QUORUMBRIDGE_BROKERS:-}" in
    docker) docker_runs || die "QUORUMBRIDGE_BROKERS=docker, but no Docker engine answers 'docker info' on this Linux"
            DRIVER=docker; return ;;
    packages | '') ;;
    *) bad "QUORUMBRIDGE_BROKERS is '$QUORUMBRIDGE_BROKERS', want packages or docker" ;;
  esac
  why=$(impossible)
  if [ -z "$why" ]; then DRIVER=packages; return; fi
  if [ -z "${QUORUMBRIDGE_BROKERS:-}" ] && docker_runs; then DRIVER=docker; return; fi
  say "brokers.sh: no RabbitMQ can be had here: $why, and no Docker engine is used."
  say "Run on Debian as root (or permit user namespaces), start a Docker engine, or set QUORUMBRIDGE_BROKER_URL to a RabbitMQ of your own."
  exit 3
}

known() { # NAME: its package, Debian suites, the versions that will do, and a command that shows that it starts
  case "$1" in
    3.10) PACKAGE=rabbitmq-server SUITES=bookworm WANT='^(1:)?3\.10\.' ;;
    4.0) PACKAGE=rabbitmq-server SUITES=trixie WANT='^(1:)?4\.0\.' ;;
    4.3) PACKAGE=rabbitmq-server SUITES='forky sid' WANT='^(1:)?4\.3\.' ;;
    amqp-tools) PACKAGE=amqp-tools SUITES='bookworm trixie' WANT='^0\.' ;;
    kombu) PACKAGE=python3-celery SUITES='bookworm trixie' WANT='^5\.' ;;
    oslo) PACKAGE=python3-oslo.messaging SUITES=bookworm WANT='^14\.0\.' ;;
    pika) PACKAGE=python3-pika SUITES='bookworm trixie' WANT='^1\.' ;;
    *) bad "unknown name '$1', want one of: $VERSIONS $CLIENTS" ;;
  esac
  case "$1" in
    amqp-tools) PROOF=(amqp-publish --help) ;;
    kombu) PROOF=(python3 -c 'import celery.bin.celery') ;;
    oslo) PROOF=(python3 -c 'import oslo_messaging._drivers.impl_rabbit') ;;
    pika) PROOF=(python3 -c 'import pika') ;;
    *) PROOF=(erl -noinput -eval 'halt().') ;;
  esac
  ROOT=$CACHE/$1/root
  STAMP=$CACHE/$1/installed
}

# shellcheck source=test/support/brokers-install.sh
. "$(dirname "${BASH_SOURCE[0]}")/brokers-install.sh"

# enter ROOT FOLDER COMMAND...: run COMMAND in the tree, with FOLDER as /srv and (when set) $FILES as /files, read-only.
# The mounts are private: they vanish with the process. With BECOME=exec the pid stays the one of this shell.
enter() {
  local root=$1 folder=$2
  shift 2
  # shellcheck disable=SC2086 -- no word, or several
  ROOT=$root FOLDER=$folder FILES=${FILES:-} ${BECOME:-} unshare --mount --uts -- /bin/bash -c '
    set -e
    echo localhost >/proc/sys/kernel/hostname 2>/dev/null || true
    mount --rbind /dev "$ROOT/dev"
    mount -t proc proc "$ROOT/proc" 2>/dev/null || mount --rbind /proc "$ROOT/proc"
    if [ -n "$FOLDER" ]; then mount --bind "$FOLDER" "$ROOT/srv"; fi
    if [ -n "$FILES" ]; then mount --bind "$FILES" "$ROOT/files"; mount -o remount,bind,ro "$ROOT/files"; fi
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/srv chroot "$ROOT" /bin/sh -c '\''
      cd /; if [ -f /srv/env ]; then set -a; . /srv/env; set +a; fi
      exec "$@"'\'' sh "$@"' bash "$@"
}

# ------------------------------------------------------------------------ nodes ---

can_listen() {
  perl -MSocket -e 'for my $p ($ARGV[0] .. $ARGV[0] + 9) { socket(my $s, PF_INET, SOCK_STREAM, 0) or exit 1;
    bind($s, sockaddr_in($p, INADDR_ANY)) && listen($s, 1) or exit 1 }' "$1" 2>/dev/null
}
management_answers() { # 401 where the configuration has another user than guest
  local answer
  answer=$({ exec 3<>"/dev/tcp/127.0.0.1/$1" &&
    printf 'GET /api/overview HTTP/1.0\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n' >&3 &&
    timeout 5 head -n 1 <&3; } 2>/dev/null) || return 1
  [[ "$answer" =~ ^HTTP/1\.[01]\ (200|401) ]]
}
# A real AMQP greeting: Connection.Start is a method frame, first octet 1. A listener that wants the PROXY protocol
# gets a version 2 header first (PROXY and not LOCAL, for which RabbitMQ 3.10 logs a crash).
amqp_answers() {
  local prefix='' host answer
  if grep -Eq 'proxy_protocol *(,|=) *true' "$DIR/advanced.config" "$DIR/rabbitmq.conf"; then prefix='\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\1\x7f\0\0\1\0\1\0\1'; fi
  for host in 127.0.0.1 ::1; do # the configuration may move the listener to the other loopback address
    # shellcheck disable=SC2059 -- the format is these octets
    answer=$({ exec 3<>"/dev/tcp/$host/$1" && printf "${prefix}AMQP\\0\\0\\11\\1" >&3 &&
      timeout 5 head -c 1 <&3 | od -An -tu1; } 2>/dev/null) || continue
    if [ "${answer//[[:space:]]/}" = 1 ]; then return 0; fi
  done
  return 1
}

node() { # PORT: the node's folder
  [[ "$1" =~ ^[0-9]+$ ]] || bad "'$1' is not a node's PORT"
  PORT=$1 DIR=$RUN/$1
  VERSION=$(cat "$DIR/version" 2>/dev/null) || true
  DRIVER=$(cat "$DIR/driver" 2>/dev/null) || true
}
pids() { # everything that the node started: found by its environment, never by a name
  grep -lzxF "QUORUMBRIDGE_NODE=$DIR" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 || true
}
started() { # what has ended stays in /proc as a zombie until process 1 has taken notice, which may be late
  local stat
  if [ "$DRIVER" = docker ]; then [ -n "$(docker ps -q -f "name=^quorumbridge-$PORT\$" 2>/dev/null)" ]; return; fi
  stat=$(cat "/proc/$(cat "$DIR/pid" 2>/dev/null || echo x)/stat" 2>/dev/null) && [[ "$stat" != *') Z '* ]]
}
lives() { started && { [ "$DRIVER" = docker ] || [ -n "$(pids)" ]; }; } # a pid may have passed to a stranger

claim() { # a free block of ports and its folder, below the range of outgoing connections
  local try port dir
  mkdir -p "$RUN"
  exec 8>"$RUN/.lock"
  flock 8
  for dir in "$RUN"/*/; do # what was left by a supervisor that was killed
    [ -f "$dir/supervisor" ] || continue
    (
      node "$(basename "$dir")"
      kill -0 "$(cat "$DIR/supervisor")" 2>/dev/null || lives || rm -rf "$DIR"
    )
  done
  for ((try = 0; try < 200; try++)); do
    port=$((20000 + (RANDOM % 1200) * 10))
    if [ ! -e "$RUN/$port" ] && can_listen "$port"; then
      PORT=$port DIR=$RUN/$port
      mkdir "$DIR"
      echo $$ >"$DIR/supervisor"
      exec 8>&-
      return
    fi
  done
  die "found no ten free ports between 20000 and 32000"
}

configure() { # CONF ADVANCED PLUGINS: the script's own keys, less those that CONF sets, then CONF
  local own key line
  own="listeners.tcp.1 = 127.0.0.1:$PORT
management.tcp.ip = 127.0.0.1
management.tcp.port = $((PORT + 3))
log.file.level = info
disk_free_limit.absolute = 50MB"
  if [ "$VERSION" = 4.3 ]; then own="$own
deprecated_features.permit.transient_nonexcl_queues = false"; fi
  if [ -n "$JOIN" ]; then own="$own
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = rabbit-$JOIN@localhost
cluster_formation.classic_config.nodes.2 = rabbit-$PORT@localhost"; fi
  {
    while IFS= read -r line; do
      key=${line%% =*}
      if [ -n "$1" ] && grep -qE "^[[:blank:]]*${key//./\\.}[[:blank:]]*=" "$1"; then continue; fi
      printf '%s\n' "$line"
    done <<<"$own"
    [ -z "$1" ] || cat "$1"
  } | sed "s#@AMQP@#$PORT#g; s#@AMQPS@#$((PORT + 1))#g; s#@BACKEND@#$((PORT + 2))#g
           s#@MANAGEMENT@#$((PORT + 3))#g; s#@FILES@#/files#g" >"$DIR/rabbitmq.conf"
  if [ -n "$2" ] && [ -s "$2" ]; then cp "$2" "$DIR/advanced.config"; else printf '[].\n' >"$DIR/advanced.config"; fi
  printf '[rabbitmq_management%s].\n' "${3:+,$3}" >"$DIR/enabled_plugins"
  cat >"$DIR/env" <<ENV
QUORUMBRIDGE_NODE='$DIR'
HOME=/srv
RABBITMQ_NODENAME=rabbit-$PORT@localhost
RABBITMQ_CONF_ENV_FILE=/srv/none
RABBITMQ_MNESIA_BASE=/srv/data
RABBITMQ_LOG_BASE=/srv/log
RABBITMQ_CONFIG_FILE=/srv/rabbitmq.conf
RABBITMQ_ADVANCED_CONFIG_FILE=/srv/advanced.config
RABBITMQ_ENABLED_PLUGINS_FILE=/srv/enabled_plugins
RABBITMQ_DIST_PORT=$((PORT + 4))
RABBITMQ_CTL_DIST_PORT_MIN=$((PORT + 6))
RABBITMQ_CTL_DIST_PORT_MAX=$((PORT + 9))
RABBITMQ_SCHEDULER_BIND_TYPE=u
RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none'
RUNNING_UNDER_SYSTEMD=true
ERL_CRASH_DUMP_SECONDS=0
ERL_EPMD_PORT=$((${JOIN:-PORT} + 5))
ERL_EPMD_ADDRESS=127.0.0.1
ENV
}

boot() { # start the configured node, wait for it, print its line
  local began=$SECONDS bin
  rm -f "$DIR/pid"
  if [ "$DRIVER" = docker ]; then boot_docker; else
    mkdir -p "$DIR/data" "$DIR/log"
    if [ ! -f "$DIR/.erlang.cookie" ]; then
      head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$DIR/.erlang.cookie"
      chmod 400 "$DIR/.erlang.cookie"
    fi
    bin=$(cd "$ROOT" && ls -d usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin)
    (
      exec 8>&- 9>&-
      ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
      BECOME="exec setsid" enter "$ROOT" "$DIR" "/$bin/rabbitmq-server" </dev/null >"$DIR/console.log" 2>&1 &
      echo $! >"$DIR/pid"
    )
  fi
  until { amqp_answers "$PORT" || amqp_answers $((PORT + 2)); } && management_answers $((PORT + 3)); do
    started || failed "stopped while starting"
    [ "$HOW" != run ] || kill -0 "$PPID" 2>/dev/null || failed "is wanted no more: the program that started it is gone"
    [ $((SECONDS - began)) -lt "$START_TIMEOUT" ] || failed "did not answer within $START_TIMEOUT s"
    sleep 0.2
  done
  printf 'broker version=%s port=%s amqps=%s backend=%s management=%s driver=%s seconds=%s\n' \
    "$VERSION" "$PORT" $((PORT + 1)) $((PORT + 2)) $((PORT + 3)) "$DRIVER" $((SECONDS - began))
}

boot_docker() { # not --rm: a restart keeps the data
  if docker inspect "quorumbridge-$PORT" >/dev/null 2>&1; then docker start "quorumbridge-$PORT" >/dev/null; return; fi
  sed -i 's#/srv/data#/var/lib/rabbitmq/mnesia#; s#/srv/log#/var/log/rabbitmq#; /^HOME=/d' "$DIR/env"
  sed "s/^\([A-Z_]*\)='\(.*\)'\$/\1=\2/" "$DIR/env" >"$DIR/docker.env"
  chmod -R a+rX "$DIR"
  docker run -d --name "quorumbridge-$PORT" --network host --env-file "$DIR/docker.env" -v "$DIR:/srv:ro" \
    ${FILES:+-v "$FILES:/files:ro"} "rabbitmq:$VERSION-management" >"$DIR/console.log"
}

failed() {
  say "---- end of $DIR/console.log"
  tail -n 20 "$DIR/console.log" 2>/dev/null | cut -c1-300 >&2 || true
  tail -n 12 "$DIR"/log/rabbit-*.log 2>/dev/null | cut -c1-300 >&2 || true
  [ "$DRIVER" != docker ] || docker logs --tail 20 "quorumbridge-$PORT" >&2 || true
  halt KILL
  die "RabbitMQ $VERSION on port $PORT $1"
}

halt() { # SIGNAL: stop the node; TERM lets it finish, then KILL for what is left
  local try list
  if [ "$DRIVER" = docker ]; then docker stop -t 20 "quorumbridge-$PORT" >/dev/null 2>&1 || true; return; fi
  if [ "$1" = TERM ] && lives; then
    kill -TERM "$(cat "$DIR/pid")" 2>/dev/null || true
    for ((try = 0; try < 200; try++)); do lives || break; sleep 0.1; done
  fi
  for ((try = 0; try < 100; try++)); do
    list=$(pids)
    [ -n "$list" ] || break
    # shellcheck disable=SC2086 -- a list of numbers
    kill -KILL $list 2>/dev/null || true
    sleep 0.05
  done
}
empty() { # the node forgets everything that it stored
  if [ "$DRIVER" = docker ]; then docker rm -f "quorumbridge-$PORT" >/dev/null 2>&1 || true; else rm -rf "$DIR/data"; fi
}
wipe() { empty; rm -rf "$DIR"; }

cmd_run() { # HOW VERSION OPTIONS
  local conf="" advanced="" plugins="" line
  HOW=$1 JOIN=""
  case " $VERSIONS " in *" ${2:-} "*) VERSION=$2 ;; *) bad "want a VERSION of: $VERSIONS" ;; esac
  shift 2
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || bad "$1 wants a value"
    case "$1" in
      --conf) conf=$(readlink -f "$2") ;;
      --advanced) advanced=$(readlink -f "$2") ;;
      --plugins) [[ "$2" =~ ^[a-z0-9_,]+$ ]] || bad "--plugins wants NAME,..."; plugins=$2 ;;
      --join)
        JOIN=$2
        [ "$(cat "$RUN/$JOIN/version" 2>/dev/null)" = "$VERSION" ] || bad "--join: no RabbitMQ $VERSION on port $JOIN"
        [ -f "$RUN/$JOIN/.erlang.cookie" ] || bad "--join: not with a Docker engine"
        ;;
      *) bad "unknown option '$1'" ;;
    esac
    shift 2
  done
  choose_driver
  known "$VERSION"
  if [ "$DRIVER" = packages ]; then install_one "$VERSION"; fi
  claim
  echo "$VERSION" >"$DIR/version"
  echo "$DRIVER" >"$DIR/driver"
  [ -z "$JOIN" ] || cp -p "$RUN/$JOIN/.erlang.cookie" "$DIR/"
  FILES=""
  [ -z "$conf" ] || FILES=$(dirname "$conf")
  if [ "$HOW" = run ]; then trap 'halt KILL; wipe' EXIT; fi
  configure "$conf" "$advanced" "$plugins"
  boot
  if [ "$HOW" = start ]; then rm -f "$DIR/supervisor"; return; fi
  while IFS= read -r line; do
    case "$line" in
      restart) halt TERM; configure "$conf" "$advanced" "$plugins"; boot ;;
      replace) halt KILL; empty; configure "$conf" "$advanced" "$plugins"; boot ;;
      kill) halt KILL; echo killed ;;
      detach) trap - EXIT; rm -f "$DIR/supervisor"; return ;;
      *) say "brokers.sh: unknown request '$line', want restart, replace, kill or detach" ;;
    esac
  done
}

cmd_stop() {
  local port
  if [ "${1:-}" = --all ]; then
    shift
    for port in "$RUN"/*/; do [ ! -d "$port" ] || set -- "$@" "$(basename "$port")"; done
  fi
  for port; do
    node "$port"
    [ -d "$DIR" ] || die "no node on port $port"
    halt TERM
    wipe
    say "RabbitMQ ${VERSION:-} on port $port stopped, its data deleted"
  done
}

cmd_ctl() { # PORT ARGS...
  local bin
  node "${1:-}"
  shift
  [ -d "$DIR" ] || die "no node on port $PORT"
  if [ "$DRIVER" = docker ]; then exec docker exec "quorumbridge-$PORT" rabbitmqctl "$@"; fi
  known "$VERSION"
  bin=$(cd "$ROOT" && ls -d usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin)
  enter "$ROOT" "$DIR" "/$bin/rabbitmqctl" "$@"
}

is_client() { case " $CLIENTS " in *" $1 "*) true ;; *) false ;; esac; }
no_client() { # NAME: exit, where a Docker engine gives the brokers
  say "brokers.sh: $1 comes from Debian packages: it needs root or user namespaces on Debian"
  exit 3
}

cmd_client() { # NAME PROGRAM ARGS...: a Python program's folder is /files, read-only
  local name=${1:-} program=${2:-}
  is_client "$name" || bad "'$name' is no CLIENT, want one of: $CLIENTS"
  [ -n "$program" ] || bad "client $name: which PROGRAM?"
  shift 2
  choose_driver
  [ "$DRIVER" = packages ] || no_client "$name"
  install_one "$name"
  FILES=""
  case "$program" in
    *.py)
      [ -r "$program" ] || bad "client $name: cannot read '$program'"
      program=$(readlink -f "$program")
      FILES=$(dirname "$program")
      set -- "/files/$(basename "$program")" "$@"
      program=/usr/bin/python3
      ;;
  esac
  BECOME=exec enter "$ROOT" "" "$program" "$@"
}

cmd_check() {
  known "${1:-}"
  choose_driver
  if [ "$DRIVER" = docker ]; then
    ! is_client "$1" || no_client "$1"
    docker image inspect "rabbitmq:$1-management" >/dev/null 2>&1
  else [ -f "$STAMP" ]; fi
}

cmd_status() {
  local name dir
  for name in $VERSIONS $CLIENTS; do
    known "$name"
    printf '%-10s %s\n' "$name" "$(cat "$STAMP" 2>/dev/null || echo 'not in the cache')"
  done
  for dir in "$RUN"/*/; do
    [ -d "$dir" ] || continue
    node "$(basename "$dir")"
    printf 'RabbitMQ %s port %s management %s: %s\n' "$VERSION" "$PORT" $((PORT + 3)) "$(lives && echo runs || echo dead)"
  done
}

case "${1:-}" in
  -h | --help | help) usage ;;
  install)
    shift
    [ $# -ge 1 ] || bad "install what?"
    for name; do known "$name"; done
    choose_driver
    for name; do
      if [ "$DRIVER" = packages ]; then install_one "$name"
      elif is_client "$name"; then no_client "$name"
      else docker pull -q "rabbitmq:$name-management" >&2; fi
    done
    ;;
  check) shift; cmd_check "$@" ;;
  start | run) cmd_run "$@" ;;
  stop) shift; cmd_stop "$@" ;;
  ctl) shift; cmd_ctl "$@" ;;
  log) node "${2:-}"; tail -n "${3:-60}" "$DIR"/log/rabbit-*.log ;;
  client) shift; cmd_client "$@" ;;
  status) cmd_status ;;
  '') usage >&2; exit 2 ;;
  *) bad "unknown command '$1'" ;;
esac
