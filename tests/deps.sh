#!/bin/sh
# deps.sh install|missing PACKAGE...
# Debian and Ubuntu: installs those of the packages that are missing, as root or through sudo.  Elsewhere: checks with
# the compiler's eyes (pkg-config) that the libraries are there and prints what to install when they are not.
mode=$1; shift
if command -v dpkg-query >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1; then
    need=
    for p in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -q '^installed$' || need="$need $p"
    done
    [ -z "$need" ] && exit 0
    echo "installing:$need"
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    if [ -n "$sudo" ] && ! command -v sudo >/dev/null 2>&1; then
        echo "not root and no sudo; run as root: apt-get install -y$need" >&2; exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get install -y -q $need >/dev/null 2>&1 && exit 0
    $sudo apt-get update -q >/dev/null && $sudo apt-get install -y -q $need || {
        echo "could not install; run as root: apt-get install -y$need" >&2; exit 1; }
    exit 0
fi
lost=
command -v pkg-config >/dev/null 2>&1 || lost=pkg-config
for l in libavformat libavcodec libavutil libswscale lmdb jansson yaml-0.1 openblas sentencepiece libutf8proc libpcre2-8 libxxhash libcrypto cmocka; do
    pkg-config --exists "$l" 2>/dev/null || lost="$lost $l"
done
[ -z "$lost" ] && exit 0
echo "not Debian or Ubuntu: install the development files of these with your package manager, then run make again:" >&2
for l in $lost; do echo "  $l" >&2; done
echo "(on Debian they are: $*)" >&2
exit 1
