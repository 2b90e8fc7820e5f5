#!/bin/bash
# run.sh - tests/docs: the examples of docs/*.md, with their output; see run.py. What is wrong in a rule names a section of
# docs/fusions.md, and that there is.
cd "$(dirname "$0")/../.." || exit 1
failed=0
report() { if [ -z "$2" ]; then echo "ok $1"; else echo "FAIL $1: ${2//$'\n'/ / }"; failed=1; fi; }
named() { { grep -rhoE 'docs/fusions\.md, [A-Za-z ]+' compiler lab tests/bad | sed 's/.*md, //'; grep -ohE 'SEE\("[^"]*"' compiler/front_rules.c | cut -d'"' -f2; } | grep . | sort -u; }
report sections/there "$(named | while read -r section; do grep -q "^## $section" docs/fusions.md || echo "no section $section"; done; [ "$(named | wc -l)" -ge 5 ] || named)"
report sections/named "$(grep -L 'docs/fusions\.md, ' tests/bad/rule-*.err tests/bad/recipe-*.err tests/bad/when-*.err)"
python3 tests/docs/run.py && exit $failed
exit 1
