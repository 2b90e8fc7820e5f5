#!/bin/bash
# run.sh - tests/docs: the examples of docs/*.md, with their output; see run.py.
cd "$(dirname "$0")/../.." || exit 1
exec python3 tests/docs/run.py
