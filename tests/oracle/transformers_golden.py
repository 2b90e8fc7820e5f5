#!/usr/bin/env python3
"""transformers_golden.py - what transformers' GptOssForCausalLM computes on small random models, written as test data.

    transformers_golden.py OUT [--only NAME]        needs torch and transformers (5.x; 4.55 and later should do); no GPU

For each case, OUT/NAME holds
    model/        config.json, model.safetensors: bf16, experts as bf16 or MXFP4
    case.json     {"ids": [prompt, ...], "greedy": [64 ids for each prompt], "margin": smallest top-2 distance met, ...}
    logits.f32    float32 logits of every prompt position, row after row, prompt after prompt
The model runs in float32 with eager attention, without a KV cache. Weights are bf16 values, or MXFP4 decoded by this script, so
the checkpoint loses nothing. Logits have a standard deviation of about 5.5; the window is shorter than the prompt, sinks,
biases and YaRN act, gates pass 7. `strict` must agree with logits to 2e-3 and with every greedy id: prompts are chosen so
that no greedy choice was closer than twice that.
Afterwards each checkpoint is loaded back by transformers, run in double, and run by oracle.py; differences are printed.
"""
import argparse
import array
import copy
import json
import math
import os
import struct
import subprocess
import sys
import traceback

import torch
import transformers
from transformers import GptOssConfig, GptOssForCausalLM

GREEDY, STD, MARGIN = 64, 5.5, 4e-3
VERSION = int(transformers.__version__.split('.')[0])

# old: config.json as openai published it in 2025 (rope_scaling); otherwise as this transformers writes it.
CASES = [
    dict(name='bf16_top2', hidden=64, inter=64, layers=3, experts=4, topk=2, d=16, heads=4, kv=2, vocab=256, window=8, prompts=[24, 3],
         theta=150000.0, factor=32.0, context=4096, mxfp4=False, old=False),
    dict(name='bf16_top4_old_config', hidden=64, inter=64, layers=4, experts=6, topk=4, d=32, heads=4, kv=1, vocab=320, window=16,
         prompts=[40, 1], theta=10000.0, factor=8.0, context=64, mxfp4=False, old=True),
    dict(name='mxfp4_top4', hidden=64, inter=96, layers=4, experts=8, topk=4, d=64, heads=4, kv=2, vocab=512, window=16, prompts=[48, 17],
         theta=150000.0, factor=32.0, context=4096, mxfp4=True, old=True),
    dict(name='mxfp4_top2', hidden=96, inter=64, layers=3, experts=5, topk=2, d=16, heads=6, kv=6, vocab=300, window=5, prompts=[33, 2],
         theta=500.0, factor=4.0, context=128, mxfp4=True, old=False),
    dict(name='mxfp4_layer_types', hidden=64, inter=32, layers=3, experts=3, topk=3, d=48, heads=8, kv=1, vocab=257, window=7,
         prompts=[29, 5], theta=150000.0, factor=32.0, context=4096, mxfp4=True, old=False,
         layer_types=['full_attention', 'sliding_attention', 'sliding_attention']),
    # No "truncate": transformers then rounds YaRN's bounds.
    dict(name='bf16_yarn_truncated', hidden=32, inter=32, layers=2, experts=4, topk=1, d=32, heads=4, kv=2, vocab=256, window=8,
         prompts=[40], theta=1000.0, factor=16.0, context=256, mxfp4=False, old=False, truncate=None),
]


# --- weights ----------------------------------------------------------------------------------------------------------


class Random:
    def __init__(self, seed):
        self.g = torch.Generator().manual_seed(seed)

    def normal(self, shape, std, mean=0.0):  # bf16 values
        return (torch.randn(tuple(shape), generator=self.g) * std + mean).to(torch.bfloat16).to(torch.float32)

    def below(self, n, shape):
        return torch.randint(0, n, tuple(shape), generator=self.g)


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=torch.float32)


def mxfp4(rnd, experts, rows, columns, std):
    """blocks, scales, and the same as float32 [experts, rows, columns]; random codes have an rms of 2.93."""
    codes = rnd.below(16, (experts, rows, columns // 32, 32))
    middle = 127 + round(math.log2(std / 2.93))
    scales = middle - 1 + rnd.below(3, (experts, rows, columns // 32))
    values = E2M1[codes] * torch.pow(2.0, (scales - 127).to(torch.float32))[..., None]
    blocks = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)  # low nibble first
    return blocks, scales.to(torch.uint8), values.reshape(experts, rows, columns)


def fill(model, case, rnd):
    """Random parameters, by name; returns what the checkpoint stores in place of parameters that are MXFP4."""
    stored = {}
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            width = p.shape[-1]
            if name.endswith(('gate_up_proj', 'down_proj')):  # [experts, in, out]
                experts, k, n = p.shape
                up = name.endswith('gate_up_proj')
                if (k, n) != ((case['hidden'], 2 * case['inter']) if up else (case['inter'], case['hidden'])):
                    raise SystemExit('%s is %s: not the layout expected' % (name, tuple(p.shape)))
                std = (3.0 if up else 0.4) / math.sqrt(k)
                if case['mxfp4']:
                    blocks, scales, values = mxfp4(rnd, experts, n, k, std)
                    stored[name] = {name + '_blocks': blocks, name + '_scales': scales}
                    p.copy_(values.transpose(1, 2))
                else:
                    p.copy_(rnd.normal(p.shape, std))
            elif name.endswith('sinks'):
                p.copy_(rnd.normal(p.shape, 1.5, 1.0))
            elif 'norm' in name:
                p.copy_(rnd.normal(p.shape, 0.2, 1.0))
            elif name.endswith('bias') or name.endswith('_bias'):
                p.copy_(rnd.normal(p.shape, 0.3))
            elif 'embed' in name:
                p.copy_(rnd.normal(p.shape, 1.0))
            elif name.endswith(('q_proj.weight', 'k_proj.weight')):
                p.copy_(rnd.normal(p.shape, 1.1 / math.sqrt(width)))
            elif name.endswith('router.weight'):
                p.copy_(rnd.normal(p.shape, 1.5 / math.sqrt(width)))
            else:  # v_proj, o_proj, lm_head
                p.copy_(rnd.normal(p.shape, 1.0 / math.sqrt(width)))
    return stored


# --- configuration ----------------------------------------------------------------------------------------------------


def yarn(case):
    rope = {'rope_type': 'yarn', 'factor': case['factor'], 'beta_fast': 32.0, 'beta_slow': 1.0,
            'original_max_position_embeddings': case['context']}
    if case.get('truncate', False) is not None:
        rope['truncate'] = case.get('truncate', False)
    return rope


def make_config(case):
    common = dict(
        hidden_size=case['hidden'], intermediate_size=case['inter'], num_hidden_layers=case['layers'], num_local_experts=case['experts'],
        num_experts_per_tok=case['topk'], head_dim=case['d'], num_attention_heads=case['heads'], num_key_value_heads=case['kv'],
        vocab_size=case['vocab'], sliding_window=case['window'], rms_norm_eps=1e-5, attention_dropout=0.0, attention_bias=True,
        max_position_embeddings=int(case['context'] * case['factor']), tie_word_embeddings=False, pad_token_id=None,
        bos_token_id=None, eos_token_id=None)
    if 'layer_types' in case:
        common['layer_types'] = list(case['layer_types'])
    if VERSION >= 5:
        config = GptOssConfig(**common, rope_parameters=dict(yarn(case), rope_theta=case['theta']))
    else:
        config = GptOssConfig(**common, rope_scaling=yarn(case), rope_theta=case['theta'])
    config._attn_implementation = 'eager'
    try:
        config._experts_implementation = 'eager'
    except Exception as e:  # older ones have no such choice
        print('  (experts_implementation: %s)' % e)
    return config


def config_json(case, config):
    if case['old']:
        c = {'architectures': ['GptOssForCausalLM'], 'attention_bias': True, 'attention_dropout': 0.0, 'eos_token_id': None,
             'experts_per_token': case['topk'], 'head_dim': case['d'], 'hidden_act': 'silu', 'hidden_size': case['hidden'],
             'initial_context_length': case['context'], 'initializer_range': 0.02, 'intermediate_size': case['inter'],
             'layer_types': list(config.layer_types), 'max_position_embeddings': int(case['context'] * case['factor']),
             'model_type': 'gpt_oss', 'num_attention_heads': case['heads'], 'num_experts_per_tok': case['topk'],
             'num_hidden_layers': case['layers'], 'num_key_value_heads': case['kv'], 'num_local_experts': case['experts'],
             'output_router_logits': False, 'pad_token_id': None, 'rms_norm_eps': 1e-5, 'rope_scaling': yarn(case),
             'rope_theta': case['theta'], 'router_aux_loss_coef': 0.9, 'sliding_window': case['window'], 'swiglu_limit': 7.0,
             'tie_word_embeddings': False, 'torch_dtype': 'bfloat16', 'use_cache': True, 'vocab_size': case['vocab']}
    else:
        c = json.loads(json.dumps(config.to_dict(), default=str))
        for key in ('torch_dtype', 'dtype'):
            c.pop(key, None)
        c.update(architectures=['GptOssForCausalLM'], model_type='gpt_oss', dtype='bfloat16')
    if case['mxfp4']:
        c['quantization_config'] = {'quant_method': 'mxfp4', 'modules_to_not_convert': [
            'model.layers.*.self_attn', 'model.layers.*.mlp.router', 'model.embed_tokens', 'lm_head']}
    return c


def check_rope(model, case):
    """The frequencies, against the formula: shows at once when a version reads the settings differently."""
    rope = model.model.rotary_emb
    d, theta = case['d'], case['theta']
    low, high = (d * math.log(case['context'] / (r * 2 * math.pi)) / (2 * math.log(theta)) for r in (32, 1))
    if case.get('truncate', False) is not False:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d - 1)
    worst = 0.0
    for i, got in enumerate(rope.inv_freq.double().tolist()):
        m = 1 - min(max((i - low) / (high - low), 0), 1)
        want = theta ** (-2 * i / d) * (m + (1 - m) / case['factor'])
        worst = max(worst, abs(got - want) / want)
    return 'low %.4f high %.4f, inv_freq off by %.1e, concentration %.6f (expected %.6f)%s' % (
        low, high, worst, float(rope.attention_scaling), 0.1 * math.log(case['factor']) + 1, '' if worst < 1e-5 else '  <-- DIFFERS')


# --- files ------------------------------------------------------------------------------------------------------------


def tensor_bytes(t):
    t = t.detach().contiguous().cpu()
    if t.dtype == torch.bfloat16:
        t = t.view(torch.int16)
    try:
        return t.numpy().tobytes()
    except RuntimeError:  # torch without numpy
        return array.array({torch.uint8: 'B', torch.int16: 'h', torch.float32: 'f'}[t.dtype], t.flatten().tolist()).tobytes()


def write_safetensors(path, tensors):
    header, at = {'__metadata__': {'format': 'pt'}}, 0
    names = sorted(tensors)
    for name in names:
        t = tensors[name]
        size = t.numel() * t.element_size()
        header[name] = {'dtype': {torch.bfloat16: 'BF16', torch.uint8: 'U8'}[t.dtype], 'shape': list(t.shape), 'data_offsets': [at, at + size]}
        at += size
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for name in names:
            f.write(tensor_bytes(tensors[name]))


def checkpoint(model, stored):
    out = {}
    for name, p in model.named_parameters():
        if name in stored:
            out.update(stored[name])
            continue
        half = p.detach().to(torch.bfloat16)
        if not torch.equal(half.to(torch.float32), p.detach()):
            raise SystemExit('%s is not exact in bf16' % name)
        out[name] = half
    return out


# --- running ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def forward(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def greedy(model, prompt):
    """Each token by a full pass, so no cache takes part; also the smallest distance of the best two."""
    ids, margin = list(prompt), math.inf
    for _ in range(GREEDY):
        row = forward(model, ids)[-1]
        best = row.topk(2).values
        margin = min(margin, float(best[0] - best[1]))
        ids.append(int((row == row.max()).nonzero()[0, 0]))  # the lowest index
    return ids[len(prompt):], margin


def choose(model, case, rnd):
    """Prompts whose greedy continuations have no near tie."""
    prompts, answers, least = [], [], math.inf
    for n in case['prompts']:
        best = None
        for _ in range(12):
            prompt = rnd.below(case['vocab'], (n,)).tolist()
            answer, margin = greedy(model, prompt)
            if best is None or margin > best[2]:
                best = (prompt, answer, margin)
            if margin >= MARGIN:
                break
        prompts.append(best[0]), answers.append(best[1])
        least = min(least, best[2])
    return prompts, answers, least


def watch_routers(model):
    """Records the closest call of any router between the last expert taken and the first one left."""
    closest = [math.inf]

    def hook(module, args, _):
        x = args[0].reshape(-1, module.weight.shape[1])
        top = torch.nn.functional.linear(x, module.weight, module.bias).sort(-1, descending=True).values
        k = getattr(module, 'top_k', None)
        if k and k < top.shape[1]:
            closest[0] = min(closest[0], float((top[:, k - 1] - top[:, k]).min()))

    hooks = [layer.mlp.router.register_forward_hook(hook) for layer in model.model.layers]
    return closest, hooks


def largest(a, b):
    return float((a.double() - b.double()).abs().max())


def attempt(what, f):
    try:
        print('  %s: %s' % (what, f()))
    except Exception as e:
        print('  %s: not done: %s' % (what, ' '.join(str(e).split())[:200] or type(e).__name__))


def reload(folder, case, prompts, logits):
    extra = {}
    if case['mxfp4']:
        extra['quantization_config'] = transformers.Mxfp4Config(dequantize=True)
    name = 'dtype' if VERSION >= 5 else 'torch_dtype'
    model = GptOssForCausalLM.from_pretrained(folder, attn_implementation='eager', **{name: torch.float32}, **extra).float().eval()
    return 'max difference %.2e' % largest(torch.cat([forward(model, p) for p in prompts]), logits)


def in_double(model, prompts, logits):
    model = copy.deepcopy(model).double()
    return 'max difference %.2e (float32 noise of the reference)' % largest(torch.cat([forward(model, p) for p in prompts]), logits)


def oracle(folder, case, prompts, answers, logits):
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'oracle.py')
    out = os.path.join(folder, 'oracle.tmp')
    worst, same = 0.0, True
    rows = 0
    for prompt, answer in zip(prompts, answers):
        text = subprocess.run([sys.executable, here, os.path.join(folder, 'model'), '--greedy', str(len(prompt) + GREEDY - 1), '-o', out],
                              input=' '.join(map(str, prompt)), text=True, capture_output=True, check=True).stdout
        with open(out, 'rb') as f:
            got = torch.tensor(array.array('f', f.read()).tolist()).reshape(len(prompt), case['vocab'])
        os.remove(out)
        worst = max(worst, largest(got, logits[rows:rows + len(prompt)]))
        same = same and [int(x) for x in text.split()] == answer
        rows += len(prompt)
    return 'max difference %.2e, greedy %s%s' % (worst, 'equal' if same else 'DIFFERS', '' if worst < 2e-3 and same else '  <-- DISAGREES')


def run(case, out, seed):
    print('%s' % case['name'], flush=True)
    folder = os.path.join(out, case['name'])
    os.makedirs(os.path.join(folder, 'model'), exist_ok=True)
    rnd = Random(seed)
    config = make_config(case)
    model = GptOssForCausalLM(config).float().eval()
    print('  attention %s, experts %s' % (model.config._attn_implementation, getattr(model.config, '_experts_implementation', '?')))
    attempt('rope', lambda: check_rope(model, case))
    stored = fill(model, case, rnd)

    probe = rnd.below(case['vocab'], (max(case['prompts']),)).tolist()
    with torch.no_grad():
        head = model.lm_head.weight
        head.copy_((head * (STD / forward(model, probe).std())).to(torch.bfloat16).to(torch.float32))
    prompts, answers, margin = choose(model, case, rnd)
    closest, hooks = watch_routers(model)
    logits = torch.cat([forward(model, p) for p in prompts]).float()
    for h in hooks:
        h.remove()
    if not torch.isfinite(logits).all():
        raise SystemExit('logits are not finite')

    c = config_json(case, config)
    with open(os.path.join(folder, 'model', 'config.json'), 'w') as f:
        json.dump(c, f, indent=1, sort_keys=True)
    write_safetensors(os.path.join(folder, 'model', 'model.safetensors'), checkpoint(model, stored))
    with open(os.path.join(folder, 'logits.f32'), 'wb') as f:
        f.write(tensor_bytes(logits))
    info = {'ids': prompts, 'greedy': answers, 'margin': margin, 'router_margin': closest[0] if math.isfinite(closest[0]) else None,
            'std': float(logits.std()), 'vocab': case['vocab'], 'seed': seed,
            'made_by': 'transformers %s, torch %s, float32, eager' % (transformers.__version__, torch.__version__)}
    with open(os.path.join(folder, 'case.json'), 'w') as f:
        json.dump(info, f)
        f.write('\n')
    size = sum(os.path.getsize(os.path.join(d, n)) for d, _, names in os.walk(folder) for n in names)
    print('  %d rows, std %.3f, max |logit| %.1f, greedy margin %.1e%s, router margin %.1e, distinct greedy ids %s, %.0f kB' % (
        len(logits), info['std'], float(logits.abs().max()), margin, '' if margin >= MARGIN else ' (SMALL)', closest[0],
        [len(set(a)) for a in answers], size / 1e3))
    attempt('loaded back', lambda: reload(os.path.join(folder, 'model'), case, prompts, logits))
    attempt('in double', lambda: in_double(model, prompts, logits))
    attempt('oracle.py', lambda: oracle(folder, case, prompts, answers, logits))
    return size


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('out')
    p.add_argument('--only', help='cases whose name contains this')
    p.add_argument('--seed', type=int, default=1)
    a = p.parse_args()
    print('python %s, torch %s, transformers %s' % (sys.version.split()[0], torch.__version__, transformers.__version__))
    torch.set_num_threads(min(8, os.cpu_count() or 1))
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(True, warn_only=True)
    total, failed = 0, []
    for i, case in enumerate(CASES):
        if a.only and a.only not in case['name']:
            continue
        try:
            total += run(case, a.out, a.seed * 1000 + i)
        except (Exception, SystemExit):  # the other cases are still of use
            traceback.print_exc(file=sys.stdout)
            failed.append(case['name'])
    print('total %.2f MB%s' % (total / 1e6, ', failed: ' + ' '.join(failed) if failed else ''))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
