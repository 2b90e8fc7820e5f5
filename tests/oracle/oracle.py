#!/usr/bin/env python3
"""oracle.py - gpt-oss in plain Python, double precision, sharing no code with the project.

Written from docs/numerics.md and docs/formats.md alone, with nothing but the standard library; slow, meant for tiny models. Loads a
Hugging Face folder (bf16, f32 or MXFP4 experts) or a .bin, runs token ids, one prompt a line, and writes float32 logits of
every position, row after row, prompt after prompt. With --greedy N it also generates, with getp's rule: until a stop id, which
is printed too, or after N - prompt + 1 tokens; the ids go to stdout, one line a prompt.

    oracle.py MODEL --ids prompts.txt -o logits.f32
    oracle.py MODEL --ids prompts.txt --greedy 1024 --eos 200002,199999

As docs/numerics.md says, RoPE's angle is fp32(position * fp32 inv_freq), and that is the only rounding here: --values f32 also
rounds every op's result to float32, which is what `strict` stores.
"""
import argparse
import array
import json
import math
import mmap
import os
import struct
import sys
from operator import mul

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]


def f32(x):
    try:
        return struct.unpack('<f', struct.pack('<f', x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def dot(a, b):
    return sum(map(mul, a, b))


def values_of(dtype, raw):
    """Bytes of a tensor to an array of doubles."""
    if dtype == 'BF16':
        halves = array.array('H', raw)
        words = array.array('I', (h << 16 for h in halves))
        return array.array('d', array.array('f', words.tobytes()))
    if dtype == 'F32':
        return array.array('d', array.array('f', raw))
    raise SystemExit('oracle: cannot compute with ' + dtype)


class Matrix(list):
    """[rows][columns] of doubles."""

    def __init__(self, flat, columns):
        super().__init__(flat[i:i + columns] for i in range(0, len(flat), columns))


def transposed(flat, rows, columns):
    return Matrix(array.array('d', (flat[r * columns + c] for c in range(columns) for r in range(rows))), rows)


# --- Hugging Face -----------------------------------------------------------------------------------------------------


class Safetensors:
    def __init__(self, folder):
        index = os.path.join(folder, 'model.safetensors.index.json')
        names = ['model.safetensors']
        if os.path.exists(index):
            with open(index) as f:
                names = sorted(set(json.load(f)['weight_map'].values()))
        self.tensor = {}
        for name in names:
            with open(os.path.join(folder, name), 'rb') as f:
                data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
            size = struct.unpack('<Q', data[:8])[0]
            for key, t in json.loads(data[8:8 + size]).items():
                if key != '__metadata__':
                    begin, end = t['data_offsets']
                    self.tensor[key] = (t['dtype'], t['shape'], data, 8 + size + begin, 8 + size + end)

    def raw(self, name):
        if name not in self.tensor:
            raise SystemExit('oracle: no tensor ' + name)
        dtype, shape, data, begin, end = self.tensor[name]
        return dtype, shape, data[begin:end]

    def flat(self, name):
        dtype, _, raw = self.raw(name)
        return values_of(dtype, raw)

    def matrix(self, name):
        return Matrix(self.flat(name), self.tensor[name][1][-1])


def mxfp4(files, name):
    """[experts][rows][columns] from NAME_blocks and NAME_scales."""
    _, (experts, rows, blocks, _), codes = files.raw(name + '_blocks')
    scales = files.raw(name + '_scales')[2]
    out = []
    for e in range(experts):
        flat = array.array('d')
        for b in range(e * rows * blocks, (e + 1) * rows * blocks):
            scale = math.ldexp(1.0, scales[b] - 127)
            for byte in codes[b * 16:b * 16 + 16]:
                flat.append(E2M1[byte & 15] * scale)
                flat.append(E2M1[byte >> 4] * scale)
        out.append(Matrix(flat, blocks * 32))
    return out


def hf_experts(files, name):
    """[experts][out][in], whether stored as MXFP4 or as [experts, in, out]."""
    if name in files.tensor:
        _, (experts, k, n), _ = files.raw(name)
        flat = files.flat(name)
        return [transposed(flat[e * k * n:(e + 1) * k * n], k, n) for e in range(experts)]
    return mxfp4(files, name)


def pick(config, *names, default=None):
    for n in names:
        if config.get(n) is not None:
            return config[n]
    if default is None:
        raise SystemExit('oracle: config.json has no ' + names[0])
    return default


def load_hf(folder):
    with open(os.path.join(folder, 'config.json')) as f:
        c = json.load(f)
    files = Safetensors(folder)
    rope = c.get('rope_scaling') or c.get('rope_parameters')  # as transformers 5.17
    layers = c['num_hidden_layers']
    kinds = c.get('layer_types') or ['full_attention' if i % 2 else 'sliding_attention' for i in range(layers)]
    if rope is None:  # gpt-oss's own
        rope = {'rope_type': 'yarn', 'factor': 32.0, 'truncate': False, 'original_max_position_embeddings': 4096}
    yarn = rope.get('rope_type', rope.get('type')) == 'yarn'
    m = {
        'hidden': c['hidden_size'], 'inter': c['intermediate_size'], 'experts': pick(c, 'num_local_experts', 'num_experts'),
        'topk': pick(c, 'num_experts_per_tok', 'experts_per_token'), 'vocab': c['vocab_size'],
        'd': c['head_dim'], 'heads': c['num_attention_heads'], 'kv_heads': c['num_key_value_heads'],
        'windows': [c['sliding_window'] if k == 'sliding_attention' else 0 for k in kinds],
        'theta': float(rope.get('rope_theta') or c.get('rope_theta') or 150000.0),
        'factor': float(rope.get('factor', 1.0)) if yarn else 1.0,
        'beta_fast': float(rope.get('beta_fast') or 32.0), 'beta_slow': float(rope.get('beta_slow') or 1.0),
        'truncate': bool(rope.get('truncate', True)),  # transformers rounds YaRN's bounds unless told not to
        'context': c.get('original_max_position_embeddings') or rope.get('original_max_position_embeddings') or c.get('max_position_embeddings') or 131072,
        'limit': pick(c, 'swiglu_limit', default=7.0), 'eps': pick(c, 'rms_norm_eps', default=1e-5),
        'embed': files.matrix('model.embed_tokens.weight'), 'unembed': files.matrix('lm_head.weight'),
        'norm': files.flat('model.norm.weight'), 'layers': [],
    }
    for i in range(layers):
        p = 'model.layers.%d.' % i
        a = p + 'self_attn.'
        m['layers'].append({
            'attn_norm': files.flat(p + 'input_layernorm.weight'), 'mlp_norm': files.flat(p + 'post_attention_layernorm.weight'),
            'wq': files.matrix(a + 'q_proj.weight'), 'bq': files.flat(a + 'q_proj.bias'),
            'wk': files.matrix(a + 'k_proj.weight'), 'bk': files.flat(a + 'k_proj.bias'),
            'wv': files.matrix(a + 'v_proj.weight'), 'bv': files.flat(a + 'v_proj.bias'),
            'wo': files.matrix(a + 'o_proj.weight'), 'bo': files.flat(a + 'o_proj.bias'),
            'sinks': files.flat(a + 'sinks'),
            'router': files.matrix(p + 'mlp.router.weight'), 'b_router': files.flat(p + 'mlp.router.bias'),
            'mlp1': hf_experts(files, p + 'mlp.experts.gate_up_proj'), 'b_mlp1': files.matrix(p + 'mlp.experts.gate_up_proj_bias'),
            'mlp2': hf_experts(files, p + 'mlp.experts.down_proj'), 'b_mlp2': files.matrix(p + 'mlp.experts.down_proj_bias'),
        })
    return m


# --- .bin -------------------------------------------------------------------------------------------------------------


def load_bin(path):
    with open(path, 'rb') as f:
        data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    (vocab, hidden, experts, topk, inter, layers, d, heads, kv_heads, _, context) = struct.unpack('<11i', data[:44])
    theta, factor, window, limit = struct.unpack('<ffif', data[44:60])
    at = 60

    def take(*shape):
        nonlocal at
        size = 4 * math.prod(shape)
        flat = values_of('F32', data[at:at + size])
        at += size
        return flat

    def stacked(*shape):
        return [take(*shape) for _ in range(layers)]

    def matrices(n, k):
        return [Matrix(take(n, k), k) for _ in range(layers)]

    def per_expert(n, k):
        return [[Matrix(take(n, k), k) for _ in range(experts)] for _ in range(layers)]

    nq, nk = heads * d, kv_heads * d
    m = {'hidden': hidden, 'inter': inter, 'experts': experts, 'topk': topk, 'vocab': vocab, 'd': d, 'heads': heads, 'kv_heads': kv_heads,
         'windows': [0 if i % 2 else window for i in range(layers)], 'theta': theta, 'factor': factor, 'beta_fast': 32.0,
         'beta_slow': 1.0, 'truncate': False, 'context': context, 'limit': limit, 'eps': 1e-5}
    m['embed'], m['unembed'] = Matrix(take(vocab, hidden), hidden), Matrix(take(vocab, hidden), hidden)
    attn_norm, mlp_norm, m['norm'] = stacked(hidden), stacked(hidden), take(hidden)
    w_qkv, b_qkv = matrices(nq + 2 * nk, hidden), stacked(nq + 2 * nk)
    w_o, b_o, sinks = matrices(hidden, nq), stacked(hidden), stacked(heads)
    router, b_router = matrices(experts, hidden), stacked(experts)
    mlp1, b_mlp1 = per_expert(2 * inter, hidden), matrices(experts, 2 * inter)
    mlp2, b_mlp2 = per_expert(hidden, inter), matrices(experts, hidden)
    if at != len(data):
        raise SystemExit('oracle: %s has %d bytes, its header implies %d' % (path, len(data), at))
    m['layers'] = [{
        'attn_norm': attn_norm[i], 'mlp_norm': mlp_norm[i], 'wq': w_qkv[i][:nq], 'bq': b_qkv[i][:nq], 'wk': w_qkv[i][nq:nq + nk],
        'bk': b_qkv[i][nq:nq + nk], 'wv': w_qkv[i][nq + nk:], 'bv': b_qkv[i][nq + nk:], 'wo': w_o[i], 'bo': b_o[i], 'sinks': sinks[i],
        'router': router[i], 'b_router': b_router[i], 'mlp1': mlp1[i], 'b_mlp1': b_mlp1[i], 'mlp2': mlp2[i], 'b_mlp2': b_mlp2[i],
    } for i in range(layers)]
    return m


# --- the model --------------------------------------------------------------------------------------------------------


def inv_freq(m):
    """fp32 inverse frequencies and the concentration, YaRN as transformers has it."""
    d, theta, factor = m['d'], m['theta'], m['factor']
    freq = [theta ** (2 * i / d) for i in range(d // 2)]
    if factor <= 1:
        return [f32(1 / f) for f in freq], 1.0

    def bound(rotations):
        return d * math.log(m['context'] / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = bound(m['beta_fast']), bound(m['beta_slow'])
    if m['truncate']:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d - 1)
    if low == high:
        high += 0.001
    out = []
    for i, f in enumerate(freq):
        keep = 1 - min(max((i - low) / (high - low), 0.0), 1.0)
        out.append(f32(1 / (factor * f) * (1 - keep) + 1 / f * keep))
    return out, 0.1 * math.log(factor) + 1


class Run:
    """One sequence: step(id) feeds a token, returns the hidden row after the last norm."""

    def __init__(self, m, rounds):
        self.m, self.pos = m, 0
        self.keep = (lambda row: list(array.array('f', row))) if rounds else (lambda row: row)
        self.freq, self.concentration = inv_freq(m)
        self.keys = [[[] for _ in range(m['kv_heads'])] for _ in m['layers']]
        self.values = [[[] for _ in range(m['kv_heads'])] for _ in m['layers']]

    def linear(self, x, w, b):
        return self.keep([dot(row, x) + bias for row, bias in zip(w, b)])

    def norm(self, x, g):
        r = 1 / math.sqrt(dot(x, x) / len(x) + self.m['eps'])
        return self.keep([v * r * s for v, s in zip(x, g)])

    def rotate(self, x):
        half = self.m['d'] // 2
        angle = [f32(self.pos * f) for f in self.freq]
        c = self.keep([math.cos(a) * self.concentration for a in angle])
        s = self.keep([math.sin(a) * self.concentration for a in angle])
        out = []
        for h in range(0, len(x), 2 * half):
            a, b = x[h:h + half], x[h + half:h + 2 * half]
            out += [p * cc - q * ss for p, q, cc, ss in zip(a, b, c, s)]
            out += [q * cc + p * ss for p, q, cc, ss in zip(a, b, c, s)]
        return self.keep(out)

    def attention(self, i, x):
        m, layer, d = self.m, self.m['layers'][i], self.m['d']
        q = self.rotate(self.linear(x, layer['wq'], layer['bq']))
        k = self.rotate(self.linear(x, layer['wk'], layer['bk']))
        v = self.linear(x, layer['wv'], layer['bv'])
        for h in range(m['kv_heads']):
            self.keys[i][h].append(k[h * d:h * d + d])
            self.values[i][h].append(v[h * d:h * d + d])
        first = max(0, self.pos + 1 - m['windows'][i]) if m['windows'][i] else 0
        out = []
        for h in range(m['heads']):
            g = h // (m['heads'] // m['kv_heads'])
            query = q[h * d:h * d + d]
            score = [dot(query, key) / math.sqrt(d) for key in self.keys[i][g][first:]]
            top = max(max(score), layer['sinks'][h])
            weight = [math.exp(s - top) for s in score]
            total = sum(weight) + math.exp(layer['sinks'][h] - top)
            out += [dot(weight, column) / total for column in zip(*self.values[i][g][first:])]
        return self.linear(self.keep(out), layer['wo'], layer['bo'])

    def expert(self, x, layer, e):
        limit = self.m['limit']
        y = self.linear(x, layer['mlp1'][e], layer['b_mlp1'][e])
        s = []
        for gate, up in zip(y[0::2], y[1::2]):
            gate = min(gate, limit)
            up = max(min(up, limit), -limit)
            s.append(gate / (1 + math.exp(-1.702 * gate)) * (up + 1) if gate > -400 else 0.0)
        return self.linear(self.keep(s), layer['mlp2'][e], layer['b_mlp2'][e])

    def mlp(self, x, layer):
        score = self.linear(x, layer['router'], layer['b_router'])
        best = sorted(range(len(score)), key=lambda e: -score[e])[:self.m['topk']]  # stable: ties to the lower index
        weight = [math.exp(score[e] - score[best[0]]) for e in best]
        weight = self.keep([w / sum(weight) for w in weight])
        rows = [self.expert(x, layer, e) for e in best]
        return self.keep([dot(weight, column) for column in zip(*rows)])

    def step(self, token):
        if not 0 <= token < self.m['vocab']:
            raise SystemExit('oracle: id %d of a vocabulary of %d' % (token, self.m['vocab']))
        x = list(self.m['embed'][token])
        for i, layer in enumerate(self.m['layers']):
            x = self.keep([a + b for a, b in zip(x, self.attention(i, self.norm(x, layer['attn_norm'])))])
            x = self.keep([a + b for a, b in zip(x, self.mlp(self.norm(x, layer['mlp_norm']), layer))])
        self.pos += 1
        return self.norm(x, self.m['norm'])

    def logits(self, hidden):
        return array.array('f', [dot(row, hidden) for row in self.m['unembed']])


def argmax(row):
    if any(math.isnan(v) for v in row):
        raise SystemExit('oracle: a logit is NaN')
    return row.index(max(row))  # the first one; -0 == 0


def generate(run, logits, prompt, limit, eos):
    out = []
    while len(prompt) + len(out) <= limit:  # the forward passes that the next token needs
        out.append(argmax(logits))
        if out[-1] in eos or len(prompt) + len(out) > limit:
            break
        logits = run.logits(run.step(out[-1]))
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('model')
    p.add_argument('--ids', default='-', help='a file of prompts, one line of ids each; - is stdin')
    p.add_argument('--count-line', action='store_true', help="the first line is getp's count of prompts")
    p.add_argument('--greedy', type=int, metavar='N', help='generate, at most N forward passes for prompt and answer')
    p.add_argument('--eos', default='', help='stop ids, comma-separated')
    p.add_argument('--values', choices=['f64', 'f32'], default='f64', help="f32: every op's result is rounded to float32")
    p.add_argument('-o', metavar='OUT', help='float32 logits of every prompt position')
    a = p.parse_args()
    with (sys.stdin if a.ids == '-' else open(a.ids)) as f:
        prompts = [[int(x) for x in line.split()] for line in f.read().splitlines()]
    if a.count_line:
        prompts = prompts[1:1 + prompts[0][0]]
    eos = {int(x) for x in a.eos.replace(',', ' ').split()}
    m = load_hf(a.model) if os.path.isdir(a.model) else load_bin(a.model)
    rows = open(a.o, 'wb') if a.o else None
    for prompt in prompts:
        run, logits = Run(m, a.values == 'f32'), None
        for i, token in enumerate(prompt):
            hidden = run.step(token)
            if rows or i == len(prompt) - 1:
                logits = run.logits(hidden)
            if rows:
                rows.write(logits.tobytes())
        if a.greedy is not None:
            ids = generate(run, logits, prompt, a.greedy, eos) if prompt else []
            print(*ids, flush=True)
    if rows:
        rows.close()


if __name__ == '__main__':
    main()
