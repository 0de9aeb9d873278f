# A comment that cites a page and a section (PAGE.md N) names one that exists: PAGE.md of this tree, with a
# heading "## N ..." or "### N.M ...".
. tests/cli/lib.sh

pages=$(git ls-files '*.md' 2>/dev/null || find . -name '*.md')
bad=
count=0
for cited in $(git ls-files 2>/dev/null | grep -E '\.(c|h|cc|cu|py|sh|def|json|md)$|Makefile$' |
    grep -v '^tests/cli/test_citations' |
    xargs grep -ohE '\b[A-Za-z][A-Za-z_-]*\.md,? (section )?[0-9]+(\.[0-9]+)*' | sed -E 's/,? (section )?([0-9])/:\2/' |
    sort -u); do
    page=$(echo "$pages" | grep -E "(^|/)${cited%%:*}$" | head -1)
    number=${cited#*:}
    count=$((count + 1))
    if [ -z "$page" ]; then
        bad="$bad ${cited%%:*}(no such page)"
    elif ! grep -qE "^#+ $(echo "$number" | sed 's/\./\\./g')([. ]|$)" "$page"; then
        bad="$bad $cited"
    fi
done
check "citations were found" test "$count" -gt 5
if [ -z "$bad" ]; then
    pass "each page and section that a comment cites exists"
else
    fail "each page and section that a comment cites exists" "$bad"
fi
finish
