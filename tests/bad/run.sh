#!/bin/bash
# run.sh - tests/bad: see tests/lua/run.sh.
SUITE=bad exec bash "$(dirname "$0")/../lua/run.sh" "$@"
