#!/bin/sh
# systems.sh [SYSTEM...]   the README's two commands on bare systems.  Not part of `make check`:
# needs root, debootstrap, the network and an hour.
#
# For each SYSTEM (default: all of those below) this makes a fresh installation with git, make and
# gcc in a folder, clones this repository's HEAD into it, runs `make demo` and `make check` there,
# and prints a row of the table in tests/bench/systems.md.
#
#   SYSTEMS_DIR     where the systems and their logs lie (default /var/tmp/weft-systems, 4 GB each)
#   MIRROR_DEBIAN   package mirrors; default: the one in this machine's apt configuration, else debootstrap's own
#   MIRROR_UBUNTU
#   COMMANDS        what to run (default "demo check")
# With ubuntu-keyring installed debootstrap checks Ubuntu's signatures on Debian; without it, it warns and goes on.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=${SYSTEMS_DIR:-/var/tmp/weft-systems}
commands=${COMMANDS:-demo check}

table='
debian-12     Debian  bookworm  main
debian-13     Debian  trixie    main
ubuntu-22.04  Ubuntu  jammy     main,universe
ubuntu-24.04  Ubuntu  noble     main,universe
ubuntu-26.04  Ubuntu  resolute  main,universe
'
[ $# -gt 0 ] || set -- debian-12 debian-13 ubuntu-24.04 ubuntu-26.04
[ "$(id -u)" = 0 ] || { echo "systems.sh: debootstrap and chroot need root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "systems.sh: debootstrap is not installed" >&2; exit 1; }
mkdir -p "$dir" || exit 1

mirror() { # DISTRIBUTION
    case $1 in
    Debian) [ -n "${MIRROR_DEBIAN:-}" ] && echo "$MIRROR_DEBIAN" && return ;;
    Ubuntu) [ -n "${MIRROR_UBUNTU:-}" ] && echo "$MIRROR_UBUNTU" && return ;;
    esac
    apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -v d="$1" '$1 == d && $2 == d {print $3; exit}'
}

# A pristine system is kept as NAME.base and copied for each run.
bare() { # NAME DISTRIBUTION SUITE COMPONENTS
    [ -d "$dir/$1.base" ] && return 0
    script=/usr/share/debootstrap/scripts/$3
    if [ ! -e "$script" ]; then # a suite younger than this debootstrap is set up as its elders were
        case $2 in Debian) script=/usr/share/debootstrap/scripts/sid ;; *) \
            script=/usr/share/debootstrap/scripts/gutsy ;; esac
    fi
    rm -rf --one-file-system "$dir/$1.making" # an interrupted debootstrap leaves /proc mounted in it
    debootstrap --variant=minbase --components="$4" --include=git,make,gcc,ca-certificates "$3" "$dir/$1.making" \
        "$(mirror "$2")" "$script" \
        >"$dir/$1.debootstrap.log" 2>&1 || {
        echo "systems.sh: debootstrap of $3 failed: $(tail -1 "$dir/$1.debootstrap.log")" >&2; return 1; }
    mv "$dir/$1.making" "$dir/$1.base"
}

# Mounts and processes of the system end with the command: both live in namespaces of their own.
inside() { # NAME COMMAND
    unshare --mount --pid --fork sh -c '
        mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mount -t tmpfs tmp "$1/tmp" &&
        exec chroot "$1" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 sh -c "$2"' run "$dir/$1" "$2"
}

version() { # NAME PACKAGE-PATTERN: the installed version, without Debian's revision
    chroot "$dir/$1" dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$2" 2>/dev/null |
        sed -n 's/^installed //p' | head -1 | sed 's/^[0-9]*://; s/[-+].*//'
}

one() { # NAME DISTRIBUTION SUITE COMPONENTS
    bare "$@" || return 1
    rm -rf --one-file-system "${dir:?}/$1"
    cp -a "$dir/$1.base" "$dir/$1" || return 1
    git bundle create -q "$dir/$1/root/weft.bundle" HEAD || return 1
    inside "$1" "cd && git -c init.defaultBranch=main -c advice.detachedHead=false clone -q weft.bundle weft" ||
        return 1
    results=
    failed=0
    for command in $commands; do
        start=$(date +%s)
        inside "$1" "cd ~/weft && make $command" >"$dir/$1.$command.log" 2>&1 </dev/null
        status=$?
        seconds=$(($(date +%s) - start))
        case $command in check*) last=", $(tail -1 "$dir/$1.$command.log")" ;; *) last= ;; esac
        if [ $status = 0 ]; then word=passes; else word="**fails** ($status)"; failed=1; fi
        results="$results $word in $((seconds / 60)):$(printf %02d $((seconds % 60)))$last |"
    done
    fetched=$(sed -n 's/^Need to get \(.*\) of archives.*/\1/p' "$dir/$1.${commands%% *}.log" 2>/dev/null | head -1)
    [ -n "$fetched" ] || fetched=$(sed -n 's/^Need to get \(.*\) of archives.*/\1/p' "$dir/$1".*.log | head -1)
    echo "| $1 | $(version "$1" gcc) | $(version "$1" libc6) | $(version "$1" libavcodec-dev) | $(version "$1" libopenblas-dev) | $(version "$1" libcmocka-dev) | ${fetched:-nothing} |$results"
    return $failed
}

rc=0
echo "Revision $(git rev-parse --short HEAD), $(date -u +%Y-%m-%d), $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
echo
echo "| system | gcc | glibc | FFmpeg | OpenBLAS | cmocka | downloaded |$(for c in $commands; do printf ' make %s |' "$c"; done)"
echo "|---|---|---|---|---|---|---|$(for c in $commands; do printf -- '---|'; done)"
for name; do
    line=$(echo "$table" | grep "^$name ")
    [ -n "$line" ] || { echo "systems.sh: '$name' is none of:" $(echo "$table" | awk '{print $1}') >&2; exit 2; }
    # shellcheck disable=SC2086
    one $line || rc=1
done
exit $rc
