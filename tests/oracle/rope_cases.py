#!/usr/bin/env python3
"""rope_cases.py - tests/formats/rope_cases.json against transformers itself: what a config.json says about RoPE.

    rope_cases.py [--verbose]        needs torch and transformers (5.17); no GPU

For each case: the config goes through GptOssConfig.from_pretrained and GptOssRotaryEmbedding, as a checkpoint's would; its
inv_freq and attention_scaling must be those of the table's theta, factor, beta, original context and rounding, by the formula
below in double (formats_test.c has the same, and holds our inv_freq against it). Ends with "N of N agree"; exits 0 iff all do.
"""
import json
import math
import os
import sys
import tempfile

import transformers
from transformers import GptOssConfig
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssRotaryEmbedding

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'formats', 'rope_cases.json')
TOLERANCE = 5e-6  # of fp32, where 1 - (1 - m) cancels near the upper bound


def expected(case, d):
    theta, factor = case['theta'], case['factor']
    freq = [theta ** (2 * i / d) for i in range(d // 2)]
    if factor <= 1:
        return [1 / f for f in freq], 1.0
    low, high = (d * math.log(case['original'] / (turns * 2 * math.pi)) / (2 * math.log(theta))
                 for turns in (case.get('fast', 32), case.get('slow', 1)))
    if case['truncate']:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d - 1)
    span = high - low or 0.001
    ramp = [min(max((i - low) / span, 0), 1) for i in range(d // 2)]
    return [r / (factor * f) + (1 - r) / f for r, f in zip(ramp, freq)], 0.1 * math.log(factor) + 1


def theirs(config):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, 'config.json'), 'w') as f:
            json.dump(dict(config, architectures=['GptOssForCausalLM'], model_type='gpt_oss'), f)
        rope = GptOssRotaryEmbedding(GptOssConfig.from_pretrained(folder))
    return rope.inv_freq.double().tolist(), float(rope.attention_scaling)


def check(case, base, verbose):
    config = {k: v for k, v in dict(base, **case['config']).items() if v != 'DELETE'}
    ours, scale = expected(case, config['head_dim'])
    try:
        got, got_scale = theirs(config)
    except Exception as e:
        print('DIFFERS %s: transformers fails: %s: %s' % (case['name'], type(e).__name__, e))
        return False
    off = max(abs(a - b) / b for a, b in zip(got, ours))
    ok = len(got) == len(ours) and off <= TOLERANCE and abs(got_scale - scale) <= 1e-6
    print('%s %s: inv_freq off by %.1e, attention_scaling %.6f, expected %.6f' % ('ok' if ok else 'DIFFERS', case['name'], off, got_scale, scale))
    if verbose or not ok:
        for i, (a, b) in enumerate(zip(got, ours)):
            print('    %2d  expected %.9e  transformers %.9e' % (i, b, a))
    return ok


def main():
    with open(TABLE) as f:
        table = json.load(f)
    print('transformers %s' % transformers.__version__)
    agree = sum(check(c, table['base'], '--verbose' in sys.argv) for c in table['cases'])
    print('%d of %d agree' % (agree, len(table['cases'])))
    sys.exit(agree != len(table['cases']))


main()
