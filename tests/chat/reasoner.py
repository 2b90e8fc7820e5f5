#!/usr/bin/env python3
"""reasoner.py - a model that speaks harmony without having learnt anything, and what chat makes of it.

    reasoner.py make MODEL             MODEL, of gptoss-mkmodel: its embeddings are replaced so that a token mostly decides the next
    reasoner.py check PLAN             chat's turns against one-shot prompts rendered here by hand

The random layers still stir what is drawn, so a wrong KV cache shows. Turns are analyses and answers, some cut off before an answer.
"""
import json
import math
import os
import random
import re
import struct
import subprocess
import sys

LETTERS = 'abcdefgh'
CERTAIN = 24.0  # logit of what may follow
SYSTEM = ('You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\nCurrent date: 2025-01-01\n\n'
          'Reasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message.')
QUESTIONS = ['hi', 'a question that is longer than one window of the model', 'why?', 'and then? ' * 8, 'ok', 'more']
MOST, SEED, STIR = 110, 10, 0.3


def tokenizer(path):
    """Bytes, the format's words as one token each, and the special tokens. Returns ids by text."""
    with open(path) as f:
        t = json.load(f)
    bytes_first = sorted(t['model']['vocab'].items(), key=lambda e: e[1])
    vocab = dict(bytes_first)
    for (old, id), word in zip(bytes_first[256:], ('assistant', 'analysis', 'final')):
        del vocab[old]
        vocab[word] = id
    t['model'].update(vocab=vocab, merges=[], ignore_merges=True)
    with open(path, 'w') as f:
        json.dump(t, f)
    return dict(vocab, **{a['content']: a['id'] for a in t['added_tokens']})


def follows(ids):
    """token -> [(what may follow, how likely)]"""
    letters = [(x, 18 / len(LETTERS)) for x in LETTERS]
    rows = {'assistant': [('<|channel|>', 1)], '<|channel|>': [('analysis', 1), ('final', 1)], 'analysis': [('<|message|>', 1)],
            'final': [('<|message|>', 1)], '<|message|>': letters, '<|end|>': [('<|start|>', 1)], '<|start|>': [('assistant', 1)]}
    rows.update((x, letters + [('<|end|>', 1), ('<|return|>', .5)]) for x in LETTERS)
    return {ids[a]: [(ids[b], p) for b, p in to] for a, to in rows.items()}


def bf16(values):
    return b''.join(struct.pack('<f', v)[2:] for v in values)


def make(model):
    ids, path = tokenizer(os.path.join(model, 'tokenizer.json')), os.path.join(model, 'model.safetensors')
    with open(path, 'rb') as f:
        data = bytearray(f.read())
    n = 8 + struct.unpack('<Q', data[:8])[0]
    header, r = json.loads(data[8:n]), random.Random(1)
    vocab, hidden = header['model.embed_tokens.weight']['shape']
    embed = [[r.choice((-3.0, 3.0)) for _ in range(hidden)] for _ in range(vocab)]
    unembed = [[0.0] * hidden for _ in range(vocab)]
    for x in LETTERS:  # which letter, is for the layers to say
        unembed[ids[x]] = [r.gauss(0, STIR) for _ in range(hidden)]
    for a, to in follows(ids).items():
        for b, p in to:
            for k in range(hidden):
                unembed[b][k] += math.copysign((CERTAIN + math.log(p)) / hidden, embed[a][k])
    for name, rows in (('model.embed_tokens.weight', embed), ('lm_head.weight', unembed), ('model.norm.weight', [[1.0] * hidden])):
        at = n + header[name]['data_offsets'][0]
        raw = b''.join(map(bf16, rows))
        assert header[name]['dtype'] == 'BF16' and len(raw) == header[name]['data_offsets'][1] - header[name]['data_offsets'][0]
        data[at:at + len(raw)] = raw
    with open(path, 'wb') as f:
        f.write(data)
    with open(os.path.join(model, 'generation_config.json'), 'w') as f:
        json.dump({'eos_token_id': [ids['<|return|>'], ids['<|endoftext|>']], 'max_new_tokens': MOST}, f)


def run(plan, *args, **more):
    out = subprocess.run(['out/gptoss-exec', plan, '--device', 'ref', '-T', '1', '-s', str(SEED), *args], capture_output=True, text=True, **more)
    if out.returncode:
        sys.exit('%s: %s' % (args, out.stderr))
    return out.stdout, out.stderr


def message(role, text):
    return '<|start|>%s<|message|>%s<|end|>' % (role, text)


def said(raw):
    """What generate printed behind "<|start|>assistant": [(channel, text)], and how it ended."""
    parts = re.findall(r'<\|channel\|>(analysis|final)<\|message\|>([a-h]+)', raw)
    whole = '<|end|><|start|>assistant'.join('<|channel|>%s<|message|>%s' % p for p in parts)
    return parts, raw == whole


def rendered(turns):
    text = message('system', SYSTEM)
    for question, parts in turns:
        text += message('user', question)
        text += ''.join('<|start|>assistant<|channel|>%s<|message|>%s<|end|>' % p for p in parts)
    return text


def shown(parts):
    first = next((i for i, p in enumerate(parts) if p[0] != 'final'), len(parts))  # the first with a label: all behind it have one
    return ''.join('%s%s\n' % ('[%s]\n' % c if i >= first else '', text) for i, (c, text) in enumerate(parts))


def check(plan, keep):
    """One-shot prompts, turn by turn, say what chat should print."""
    turns, want, dropped, cut = [], '', 0, 0
    for q in QUESTIONS:
        raw = run(plan, '-m', 'generate', '--special', rendered(turns + [(q, [])]) + '<|start|>assistant')[0][:-1]
        parts, whole = said(raw)
        if not whole:
            return 'a turn that no message ends: choose another SEED (%r)' % raw
        want += shown(parts)
        turns.append((q, parts))
        if not keep and parts[-1][0] == 'final':  # then the reasoning of all turns so far goes
            dropped += sum(c == 'analysis' for _, ps in turns for c, _ in ps)
            turns = [(q, [p for p in ps if p[0] != 'analysis']) for q, ps in turns]
        cut += parts[-1][0] != 'final'
    got, err = run(plan, '-m', 'chat', '--date', '2025-01-01', '--verbose', *(['--keep-reasoning'] if keep else []),
                   input='\n'.join(QUESTIONS) + '\n')
    if got != want:
        return 'chat said %r, one-shot prompts %r' % (got, want)
    ran = [int(x) for x in re.findall(r'^turn: (\d+) prompt', err, re.M)]
    made = [int(x) for x in re.findall(r'prompt tokens run, (\d+) generated', err)]
    if not keep and (dropped < 4 or not cut):
        return 'only %d analyses were dropped, %d turns without an answer: choose another SEED' % (dropped, cut)
    if max(ran[1:]) > 2 * MOST + 120:
        return 'a turn ran %d prompt tokens: the whole sequence again' % max(ran[1:])
    return '' if max(made) > 64 else 'turns are too short to cross a page'


def main():
    if sys.argv[1] == 'make':
        return make(sys.argv[2])
    failed = False
    for keep, ahead in ((False, 0), (True, 0), (False, 1), (True, 1)):
        os.environ['GPTOSS_AHEAD'] = str(ahead)  # 1: going back follows a token too many, as on GPUs
        why, name = check(sys.argv[2], keep), 'reasoning/' + ('kept' if keep else 'dropped') + ('-ahead' if ahead else '')
        print('FAIL %s: %s' % (name, why) if why else 'ok ' + name)
        failed |= bool(why)
    sys.exit(failed)


main()
