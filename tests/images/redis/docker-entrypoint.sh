#!/bin/sh
# Entry point with the public image's contract: options alone mean redis-server, root becomes the redis
# user, and protected mode is off, since only published ports reach a container.
set -e
case "${1:-}" in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ]; then
  case "$*" in
    *protected-mode*) ;;
    *) grep -qs -e '^protected-mode' -- "${2:-}" || set -- "$@" --protected-mode no ;;
  esac
  if [ "$(id -u)" = 0 ]; then
    chown -R redis:redis .
    exec setpriv --reuid=redis --regid=redis --clear-groups -- "$@"
  fi
fi
exec "$@"
