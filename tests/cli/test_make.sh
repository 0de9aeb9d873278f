#!/bin/sh
# The Makefile and tests/deps.sh, as a stranger meets them: what is refused, what is said, what is installed.
. tests/cli/lib.sh
unset MAKEFLAGS MAKELEVEL MFLAGS # this is not a part of the `make check` around it

runs "an unknown VARIANT is refused" 2 make VARIANT=relase found
stderr_has "VARIANT is 'relase', expected one of: release debug"
runs "make help" 0 make help
for target in all check demo install uninstall fuzz cuda; do stdout_has "  $target "; done
# with -n the inner make would not start
runs "parallel jobs asked for by the caller" 0 make -j2 VARIANT="$(basename "$B")" all
if grep -q "jobserver" "$T/stderr"; then
    fail "no warning about the jobserver" "$(cat "$T/stderr")"
else
    pass "no warning about the jobserver"
fi
printf '#!/bin/sh\necho begin >>%s\nsleep 0.2\necho end >>%s\n' "$T/order" "$T/order" >"$T/inner"; chmod +x "$T/inner"
runs "two goals with -j2" 0 make -j2 MAKE="$T/inner" demo-quick demo-measure
check "follow each other: they build the same files" test "$(tr '\n' ' ' <"$T/order")" = "begin end begin end "
# ---- the runner of the tests
mkdir "$T/some"
echo 'echo "ok 1 - it ran"' | tee "$T/some/a.sh" >"$T/some/b.sh"
runs "two tests that pass" 0 sh tests/run.sh "$T/ran" "$T/some/a.sh" "$T/some/b.sh"
stdout_has "2 passed, 0 failed, 0 skipped"
# the second one ends the shell that would have written its result, as the kernel does when memory is short
echo 'echo "ok 1 - it ran"; kill -9 $PPID' >"$T/some/b.sh"
runs "a test that leaves no result" 1 sh tests/run.sh "$T/ran" "$T/some/a.sh" "$T/some/b.sh"
stdout_has "of 2 test programs ran to their end"

runs "pkg-config's own message is shown" 2 make found BLAS=no-such-blas
stderr_has "these libraries cannot be used: no-such-blas"
stderr_has "Package no-such-blas was not found in the pkg-config search path"
runs "an FFmpeg that is too old is named" 2 make found AVCODEC_LEAST=999.0 FFMPEG_LEAST=99
stderr_has "FFmpeg 99 or later is needed (libavcodec 999.0), found libavcodec"
flags=$(make -n -B BLAS=no-such-blas "$B/common/base/json.o" 2>&1)
case $flags in *"$(pkg-config --cflags libutf8proc)"*) lost= ;; *) lost=$flags ;; esac
if [ -z "$lost" ]; then pass "one package that is missing takes no other's flags away"
else fail "one package that is missing takes no other's flags away" "$lost"; fi

# ---- deps.sh on other machines: stand-ins for apt and its kin write down how they are called -----
mkdir "$T/debian" "$T/other"
stand_in() { # FOLDER NAME BODY
    printf '#!/bin/sh\n%s\n' "$3" >"$T/$1/$2"
    chmod +x "$T/$1/$2"
}
for tool in sh grep sed env printf echo; do
    for folder in debian other; do ln -s "$(command -v $tool)" "$T/$folder/$tool"; done
done
stand_in debian dpkg-query \
    'for p; do :; done; case $p in here*) echo installed ;; *) grep -qx "$p" "'"$T"'/installed" && echo installed ;; esac'
stand_in debian apt-get \
    'echo "$DEBIAN_FRONTEND: apt-get $*" >>"'"$T"'/calls"; case " $* " in *" -s "*) exit ${APT_KNOWS:-0} ;; *" install "*) echo "Get:1 wanted"; echo wanted >"'"$T"'/installed" ;; esac'
stand_in debian sudo 'echo "sudo $*" >>"'"$T"'/calls"; exec "$@"'
stand_in debian id 'echo ${FAKE_UID:-0}'
stand_in debian pkg-config \
    'for p; do :; done; [ "$p" != broken ] || { echo "Package protobuf-lite, required by broken, not found"; exit 1; }'
cp "$T/debian/pkg-config" "$T/other/pkg-config"
on() { # FOLDER WORDS...: deps.sh there
    folder=$1
    shift
    : >"$T/calls"
    : >"$T/installed"
    env PATH="$T/$folder" "$@"
}
called() { # TEXT: one of the calls written down
    if grep -qF -e "$1" "$T/calls"; then
        pass "$lib_name: calls '$1'"
    else
        fail "$lib_name: calls '$1'" "$(cat "$T/calls")"
    fi
}

runs "nothing is missing" 0 on debian sh tests/deps.sh missing "fine" here1 here2
check "then apt is not called" test ! -s "$T/calls"
runs "a package is missing" 0 on debian sh tests/deps.sh missing "fine" here1 wanted
stdout_has "installing with apt: wanted"
stdout_has "Get:1 wanted"
called "noninteractive: apt-get -q install -y --no-install-recommends wanted"
check "lists that know the package are not fetched again" test "$(grep -c update "$T/calls")" = 0
runs "apt's lists do not know it" 0 on debian APT_KNOWS=100 sh tests/deps.sh install "fine" wanted
called "noninteractive: apt-get -q update"
runs "not root" 0 on debian FAKE_UID=1000 sh tests/deps.sh missing "fine" wanted
called "sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install"
runs "installed, but pkg-config cannot use it" 1 on debian sh tests/deps.sh install "fine broken" wanted
stderr_has "pkg-config cannot use: broken; it says:"
stderr_has "  Package protobuf-lite, required by broken, not found"
runs "all there, but pkg-config cannot use it" 1 on debian sh tests/deps.sh missing "broken" here1
stderr_has "Package protobuf-lite, required by broken"
rm "$T/debian/sudo"
runs "neither root nor sudo" 1 on debian FAKE_UID=1000 sh tests/deps.sh missing "fine" wanted
stderr_has "run as root: apt-get install -y --no-install-recommends wanted"
runs "another distribution, all there" 0 on other sh tests/deps.sh install "fine" wanted
runs "another distribution" 1 on other sh tests/deps.sh install "fine broken" wanted
stderr_has "not Debian or Ubuntu: install the development files of these"
stderr_has "  broken"

# ---- install and uninstall -----------------------------------------------------------------------
D="$T/two words"
runs "install" 0 make install VARIANT="$(basename "$B")" DESTDIR="$D" PREFIX=/usr
for program in prep cache train infer; do
    check "weft-$program is installed and runs" "$D/usr/bin/weft-$program" --version
    check "weft-$program has a manual page" grep -q "^.SH SYNOPSIS" "$D/usr/share/man/man1/weft-$program.1"
    check "weft-$program has bash completion" bash -c '. "$1" && complete -p "$2"' run \
        "$D/usr/share/bash-completion/completions/weft-$program" "weft-$program"
    check "weft-$program is stripped" test -z "$(nm "$D/usr/bin/weft-$program" 2>/dev/null)"
done
for schema in schemas/*.json; do
    check "$schema is installed" cmp "$schema" "$D/usr/share/weft/$schema"
done
if [ -f "$B/libweft-cuda.so" ]; then check "the CUDA back end is installed" test -f "$D/usr/lib/weft/libweft-cuda.so"
else stdout_has "libweft-cuda.so was not built"; fi
# A back end that is found but cannot be loaded is named with its place.
mkdir -p "$D/usr/lib/weft"
echo broken >"$D/usr/lib/weft/libweft-cuda.so"
runs "the installed programs look in lib/weft" 1 "$D/usr/bin/weft-infer" --selftest --device cuda
stderr_has "lib/weft/libweft-cuda.so"
touch "$D/usr/bin/mine"
runs "uninstall" 0 make uninstall DESTDIR="$D" PREFIX=/usr
check "uninstall leaves only what it did not install" test "$(find "$D" -type f)" = "$D/usr/bin/mine"
finish
