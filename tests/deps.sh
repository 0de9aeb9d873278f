#!/bin/sh
# deps.sh install|missing|check "PKG-CONFIG NAME..." PACKAGE...
# install, missing: on Debian and Ubuntu, installs those of the PACKAGEs that are missing, as root
# or through sudo; then, as check does, asks pkg-config for every NAME and says what is still
# missing.  Elsewhere nothing is installed: the message names what to install.
mode=$1
names=$2
shift 2

# Sets `lost` to the names that pkg-config does not find usable, and `why` to its own words about them.
ask() {
    lost=
    why=
    [ -z "$names" ] && return 0
    if ! command -v pkg-config >/dev/null 2>&1; then
        lost=pkg-config
        why="the program pkg-config is not installed"
        return 1
    fi
    for name in $names; do
        said=$(pkg-config --print-errors --exists "$name" 2>&1) && continue
        lost="$lost $name"
        why="$why$said
"
    done
    [ -z "$lost" ]
}

tell() { # each line of pkg-config's message, indented
    printf '%s' "$why" | sed 's/^/  /' >&2
}

if [ "$mode" = check ]; then
    ask && exit 0
    echo "make: these libraries cannot be used:$lost; pkg-config says:" >&2
    tell
    echo "run 'make deps' to install what is missing" >&2
    exit 1
fi

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    ask && exit 0
    echo "not Debian or Ubuntu: install the development files of these with your package manager, then run make again:" >&2
    for name in $lost; do echo "  $name" >&2; done
    echo "pkg-config says:" >&2
    tell
    echo "(on Debian the packages are: $*)" >&2
    exit 1
fi

need=
for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -q '^installed$' || need="$need $package"
done
if [ -n "$need" ]; then
    command="apt-get install -y --no-install-recommends$need"
    if [ "$(id -u)" = 0 ]; then as_root=
    elif command -v sudo >/dev/null 2>&1; then as_root=sudo
    else
        echo "packages are missing, and this is not root and there is no sudo; run as root: $command" >&2
        exit 1
    fi
    echo "installing with apt:$need"
    apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@"; }
    # Lists that are absent or do not know a package are fetched first; lists that are too old show
    # when a download fails.
    apt-get install -s -qq --no-install-recommends $need >/dev/null 2>&1 || apt update
    apt install -y --no-install-recommends $need || { apt update && apt install -y --no-install-recommends $need; } || {
        echo "apt could not install them; run as root: $command" >&2
        exit 1
    }
fi
ask && exit 0
echo "the packages are installed, but pkg-config cannot use:$lost; it says:" >&2
tell
exit 1
