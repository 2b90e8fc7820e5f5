#!/usr/bin/env python3
"""train.py - trains models/tiny, a small gpt-oss that does what generate.py asks. Needs a CUDA GPU, torch, transformers.

    train.py OUT [--seconds N] [--init master.pt]

The model below computes what transformers' GptOss computes, with weights rounded as they will be saved: experts to MXFP4,
all else to bf16; gradients pass the rounding unchanged. Every expert is computed and the routing weights mask them: the same
function, without a loop. OUT gets model.safetensors, config.json, generation_config.json, tokenizer.json, eval.jsonl,
report.json (figures) and master.pt (the unrounded weights, for --init).
"""
import argparse
import datetime
import functools
import json
import math
import multiprocessing
import os
import queue
import re
import sys
import time
import traceback

os.environ['TOKENIZERS_PARALLELISM'] = 'false'  # the workers are forked
import numpy
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import generate

CONFIG = dict(vocab=768, hidden=128, layers=4, heads=8, kv_heads=2, head_dim=32, experts=8, topk=2, intermediate=128, window=32,
              max_seq=1024, theta=10000.0, factor=4.0, context=256, limit=7.0, eps=1e-5)
SEED, ROW, POOL = 1, 512, 300000  # a row holds documents up to 512 tokens; the pool keeps the newest rows on the GPU
SPECIALS = ['<|startoftext|>', '<|endoftext|>', '<|return|>', '<|constrain|>', '<|channel|>', '<|start|>', '<|end|>', '<|message|>',
            '<|call|>', '<|endofprompt|>']


def say(*what):
    print('%6.1f' % (time.time() - say.start), *what, flush=True)


say.start = time.time()


# --- tokenizer --------------------------------------------------------------------------------------------------------

PATTERN = '|'.join([r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])  # o200k's


def train_tokenizer(path):
    """Byte-level BPE. Its text has no digits and no capitals, so those stay single tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    documents = generate.training(0)
    text = (''.join(p + a for p, a, _ in next(documents)) for _ in range(20000))
    text = (re.sub(r'<\|\w+\|>', '\n', t) for t in text)
    lines = [line for t in text for line in re.sub(r'[A-Z]\w*|\d', '', t).split('\n')]
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), 'isolated'),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=CONFIG['vocab'] - len(SPECIALS), special_tokens=[], show_progress=False,
                                                       initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIALS])
    if tok.get_vocab_size() > CONFIG['vocab']:
        raise SystemExit('%d tokens' % tok.get_vocab_size())
    tok.save(path)
    return tok


# --- data -------------------------------------------------------------------------------------------------------------


def encode(tok, texts):
    return [e.ids for e in tok.encode_batch(texts, add_special_tokens=False)]


def packed(tok, seed):
    """Rows of whole documents: ids, number of the document in its row (0: padding), 1 where the token belongs to an answer."""
    documents, rows = generate.training(seed), []
    while True:
        batch = [next(documents) for _ in range(500)]
        parts = iter(encode(tok, [text for d in batch for p, a, stop in d for text in (p, a + stop)]))
        for d in batch:
            ids, target = [], []
            for _ in d:
                p, a = next(parts), next(parts)
                ids += p + a
                target += [0] * len(p) + [1] * len(a)
            if len(ids) > ROW:
                continue
            row = next((r for r in rows if len(r[0]) + len(ids) <= ROW), None)
            if row is None:
                if len(rows) == 16:
                    rows.sort(key=lambda r: len(r[0]))
                    full = rows.pop()
                    yield [part + [0] * (ROW - len(part)) for part in full]
                row = [[], [], []]
                rows.append(row)
            number = row[1][-1] + 1 if row[1] else 1
            row[0] += ids
            row[1] += [number] * len(ids)
            row[2] += target


def worker(path, seed, out):
    from tokenizers import Tokenizer
    rows = packed(Tokenizer.from_file(path), seed)
    while True:
        out.put(numpy.array([next(rows) for _ in range(128)], dtype=numpy.int16))  # [128, 3, ROW]


class Pool:
    """Rows arrive from the workers while training goes on; a batch is drawn from those that are there."""

    def __init__(self, path, workers):
        fork = multiprocessing.get_context('fork')
        self.queue, self.rows, self.n = fork.Queue(4 * workers), None, 0
        self.workers = [fork.Process(target=worker, args=(path, SEED * 1000 + i, self.queue), daemon=True) for i in range(workers)]
        for w in self.workers:
            w.start()

    def take(self, wait):
        rows = torch.from_numpy(self.queue.get(wait, 60)).cuda(non_blocking=True)
        if self.rows is None:
            self.rows = torch.zeros(POOL // 128 * 128, 3, ROW, dtype=torch.int16, device='cuda')
        at = self.n % len(self.rows)
        self.rows[at:at + len(rows)] = rows
        self.n += len(rows)

    def batch(self, size):
        while self.n < 8192:
            self.take(True)
        try:
            for _ in range(4):
                self.take(False)
        except queue.Empty:
            pass
        pick = torch.randint(0, min(self.n, len(self.rows)), (size,), device='cuda')
        return self.rows[pick].long().unbind(1)

    def close(self):
        for w in self.workers:
            w.terminate()


# --- rounding ---------------------------------------------------------------------------------------------------------

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]


@functools.cache
def e2m1(device):
    """The 16 values, and the middles between the magnitudes."""
    return (torch.tensor(E2M1 + [-x for x in E2M1], device=device),
            torch.tensor([(a + b) / 2 for a, b in zip(E2M1, E2M1[1:])], device=device))


def mxfp4(w):
    """Codes [..., blocks, 32] and exponents [..., blocks, 1] of w [..., 32 blocks]."""
    blocks = w.float().unflatten(-1, (-1, 32))
    most = blocks.abs().amax(-1, keepdim=True).clamp(min=2.0 ** -40)
    exponent = torch.ceil(torch.log2(most / 6)).int()
    code = torch.bucketize((blocks / power(exponent)).abs(), e2m1(w.device)[1])
    return code + 8 * (blocks < 0), exponent


def power(exponent):
    return (exponent + 127 << 23).view(torch.float32)  # 2^exponent, exactly


def mxfp4_value(code, exponent):
    return (e2m1(code.device)[0][code] * power(exponent)).flatten(-2)


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, experts):
        return mxfp4_value(*mxfp4(w)) if experts else w.to(torch.bfloat16).float()

    @staticmethod
    def backward(ctx, grad):
        return grad, None


# --- model ------------------------------------------------------------------------------------------------------------


def shapes(c):
    """name: shape, standard deviation at the start, mean, factor of the learning rate. Gates and ups start large, so that some
    pass the limit of 7, and attention starts with sinks that take a part: both then matter in what is learnt."""
    V, H, L, E, I = c['vocab'], c['hidden'], c['layers'], c['experts'], c['intermediate']
    Q, QKV = c['heads'] * c['head_dim'], (c['heads'] + 2 * c['kv_heads']) * c['head_dim']
    return dict(
        embed=((V, H), .5, 0, 2), unembed=((V, H), H ** -.5, 0, 1), norm=((H,), 0, 1, 1), attn_norm=((L, H), 0, 1, 1),
        qkv_w=((L, QKV, H), H ** -.5, 0, 1), qkv_b=((L, QKV), 0, 0, 1), sinks=((L, c['heads']), .5, 1.5, 2),
        o_w=((L, H, Q), .5 * Q ** -.5, 0, 1), o_b=((L, H), 0, 0, 1), mlp_norm=((L, H), 0, 1, 1),
        router_w=((L, E, H), H ** -.5, 0, 1), router_b=((L, E), 0, 0, 1),
        mlp1_w=((L, E, 2 * I, H), 3 * H ** -.5, 0, 2), mlp1_b=((L, E, 2 * I), 0, 0, 2),
        mlp2_w=((L, E, H, I), .005, 0, .06), mlp2_b=((L, E, H), 0, 0, 1))


@functools.cache
def rope_table(d, theta, factor, context, n, device):
    """cos and sin [n, d/2], YaRN with unrounded bounds, as docs/numerics.md has it."""
    frequency = theta ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    low, high = (d * math.log(context / (r * 2 * math.pi)) / (2 * math.log(theta)) for r in (32, 1))
    low, high = max(low, 0), min(high, d - 1)
    m = 1 - ((torch.arange(d // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    if factor > 1:
        frequency = frequency / factor * (1 - m) + frequency * m
    angle = torch.arange(n, dtype=torch.float32)[:, None] * frequency.float()
    scale = .1 * math.log(factor) + 1 if factor > 1 else 1
    return (angle.cos() * scale).to(device), (angle.sin() * scale).to(device)


def rmsnorm(x, g, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * g


class Tiny(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        r = torch.Generator().manual_seed(SEED)
        for name, (shape, std, mean, _) in shapes(c).items():
            self.register_parameter(name, torch.nn.Parameter(torch.randn(shape, generator=r) * std + mean))

    def weights(self):
        return {name: Rounded.apply(p, name in ('mlp1_w', 'mlp2_w')) for name, p in self.named_parameters()}

    def attention(self, c, w, l, x, rope, mask):
        B, S, D = len(x), x.shape[1], c['head_dim']
        qkv = F.linear(x, w['qkv_w'][l], w['qkv_b'][l]).view(B, S, -1, D).transpose(1, 2)
        q, k, v = qkv.split([c['heads'], c['kv_heads'], c['kv_heads']], 1)

        def rotate(t):
            a, b = t.float().chunk(2, -1)
            return torch.cat((a * rope[0] - b * rope[1], b * rope[0] + a * rope[1]), -1)

        q, k = (rotate(q), rotate(k)) if c.get('rope', True) else (q, k)
        k, v = (t.repeat_interleave(c['heads'] // c['kv_heads'], 1) for t in (k, v))
        scores = (q * D ** -.5 @ k.transpose(2, 3)).float().masked_fill(~mask[:, None], -math.inf)
        sink = w['sinks'][l] if c.get('sinks', True) else torch.full_like(w['sinks'][l], -1e30)
        scores = torch.cat((scores, sink.view(1, -1, 1, 1).expand(B, -1, S, 1)), -1)
        p = scores.softmax(-1)[..., :-1]
        return F.linear((p.to(v.dtype) @ v).transpose(1, 2).flatten(2), w['o_w'][l], w['o_b'][l])

    def mlp(self, c, w, l, x):
        with torch.autocast(x.device.type, enabled=False):
            r = F.linear(x, w['router_w'][l], w['router_b'][l]) * c.get('router', 1)
        best, ids = r.topk(c['topk'], -1)
        p = torch.zeros_like(r).scatter(-1, ids, best.softmax(-1))  # [B, S, E], 0 for the experts not taken
        h = F.linear(x, w['mlp1_w'][l].flatten(0, 1), w['mlp1_b'][l].flatten()).unflatten(-1, (c['experts'], -1))
        gate, up = h[..., 0::2].clamp(max=c['limit']), h[..., 1::2].clamp(-c['limit'], c['limit'])
        a = gate * torch.sigmoid(1.702 * gate) * (up + 1) * p[..., None].to(h.dtype)
        y = F.linear(a.flatten(2), w['mlp2_w'][l].transpose(0, 1).flatten(1)) + p @ w['mlp2_b'][l]
        share, taken = r.softmax(-1).mean((0, 1)), (p > 0).float().mean((0, 1)) / c['topk']
        return y, c['experts'] * (share * taken).sum(), h

    def forward(self, ids, document=None, w=None, watch=None, **broken):
        """Logits [B, S, vocab] and the routers' imbalance. broken: numbers of the configuration to be got wrong."""
        c, w = {**self.c, **broken}, w or self.weights()
        at = torch.arange(ids.shape[1], device=ids.device)
        distance = at[:, None] - at
        mask = (distance >= 0).expand(len(ids), -1, -1)
        if document is not None:
            mask = mask & (document[:, :, None] == document[:, None])
        near = mask & (distance < c['window']) if c['window'] else mask
        rope = rope_table(c['head_dim'], c['theta'], c['factor'], c['context'], ids.shape[1], ids.device)
        imbalance = 0
        x = w['embed'][ids]
        for l in range(c['layers']):
            n = rmsnorm(x, w['attn_norm'][l], c['eps'])
            x = x + self.attention(c, w, l, n, rope, mask if l % 2 else near)
            y, i, h = self.mlp(c, w, l, rmsnorm(x, w['mlp_norm'][l], c['eps']))
            x, imbalance = x + y, imbalance + i / c['layers']
            if watch is not None:
                watch.append(h)
        return F.linear(rmsnorm(x, w['norm'], c['eps']), w['unembed']), imbalance


# --- files ------------------------------------------------------------------------------------------------------------


def write_json(out, name, what):
    with open(os.path.join(out, name), 'w') as f:
        json.dump(what, f, indent=2)
        f.write('\n')


def save(model, out, tok):
    from safetensors.torch import save_file
    c, w, t = model.c, {k: p.detach() for k, p in model.weights().items()}, {}
    t['model.embed_tokens.weight'], t['lm_head.weight'], t['model.norm.weight'] = w['embed'], w['unembed'], w['norm']
    q, kv = c['heads'] * c['head_dim'], c['kv_heads'] * c['head_dim']
    for l in range(c['layers']):
        at = 'model.layers.%d.' % l
        t[at + 'input_layernorm.weight'], t[at + 'post_attention_layernorm.weight'] = w['attn_norm'][l], w['mlp_norm'][l]
        for kind, suffix in (('w', 'weight'), ('b', 'bias')):
            for name, part in zip('qkv', w['qkv_' + kind][l].split([q, kv, kv])):
                t['%sself_attn.%s_proj.%s' % (at, name, suffix)] = part
            t[at + 'self_attn.o_proj.' + suffix] = w['o_' + kind][l]
            t[at + 'mlp.router.' + suffix] = w['router_' + kind][l]
        t[at + 'self_attn.sinks'] = w['sinks'][l]
        for name, p in (('gate_up_proj', 'mlp1'), ('down_proj', 'mlp2')):
            code, exponent = mxfp4(getattr(model, p + '_w').detach()[l])
            t[at + 'mlp.experts.%s_blocks' % name] = (code[..., 0::2] | code[..., 1::2] << 4).to(torch.uint8)  # low nibble first
            t[at + 'mlp.experts.%s_scales' % name] = (exponent[..., 0] + 127).to(torch.uint8)
            t[at + 'mlp.experts.%s_bias' % name] = w[p + '_b'][l]
    t = {k: (v if v.dtype == torch.uint8 else v.to(torch.bfloat16)).contiguous().cpu().clone() for k, v in t.items()}
    save_file(t, os.path.join(out, 'model.safetensors'), metadata={'format': 'pt'})

    stop, pad = tok.token_to_id('<|return|>'), tok.token_to_id('<|endoftext|>')
    write_json(out, 'config.json', {
        'architectures': ['GptOssForCausalLM'], 'model_type': 'gpt_oss', 'attention_bias': True, 'attention_dropout': 0.0,
        'eos_token_id': stop, 'pad_token_id': pad, 'experts_per_token': c['topk'], 'num_experts_per_tok': c['topk'],
        'head_dim': c['head_dim'], 'hidden_act': 'silu', 'hidden_size': c['hidden'], 'initial_context_length': c['context'],
        'initializer_range': 0.02, 'intermediate_size': c['intermediate'], 'num_hidden_layers': c['layers'],
        'layer_types': ['full_attention' if l % 2 else 'sliding_attention' for l in range(c['layers'])],
        'max_position_embeddings': c['max_seq'], 'num_attention_heads': c['heads'], 'num_key_value_heads': c['kv_heads'],
        'num_local_experts': c['experts'], 'output_router_logits': False, 'rms_norm_eps': c['eps'],
        'rope_scaling': {'beta_fast': 32.0, 'beta_slow': 1.0, 'factor': c['factor'], 'original_max_position_embeddings': c['context'],
                         'rope_type': 'yarn', 'truncate': False},
        'rope_theta': c['theta'], 'router_aux_loss_coef': 0.9, 'sliding_window': c['window'], 'swiglu_limit': c['limit'],
        'tie_word_embeddings': False, 'torch_dtype': 'bfloat16', 'use_cache': True, 'vocab_size': c['vocab'],
        'quantization_config': {'quant_method': 'mxfp4', 'modules_to_not_convert': [
            'model.layers.*.self_attn', 'model.layers.*.mlp.router', 'model.embed_tokens', 'lm_head']}})
    write_json(out, 'generation_config.json', {'bos_token_id': tok.token_to_id('<|startoftext|>'), 'do_sample': True,
                                               'eos_token_id': [stop, pad], 'pad_token_id': pad})
    torch.save({k: p.detach().cpu() for k, p in model.named_parameters()}, os.path.join(out, 'master.pt'))


# --- judging ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def exact(logits_of, tok, problems, device='cuda'):
    """Share of the answers, stop included, that greedy decoding gives, by task. It gives an answer if and only if each token of
    it is the likeliest after those before: one pass over the whole tells."""
    prompts, answers = encode(tok, [p['prompt'] for p in problems]), encode(tok, [p['answer'] + p['stop'] for p in problems])
    order = sorted(range(len(problems)), key=lambda i: len(prompts[i]) + len(answers[i]))
    right, total, misses = {}, {}, {}
    for at in range(0, len(order), 64):
        some = order[at:at + 64]
        ids = torch.zeros(len(some), max(len(prompts[i]) + len(answers[i]) for i in some), dtype=torch.long)
        for row, i in zip(ids, some):
            row[:len(prompts[i]) + len(answers[i])] = torch.tensor(prompts[i] + answers[i])
        best = logits_of(ids.to(device)).argmax(-1).tolist()
        for row, i in zip(best, some):
            task, n = problems[i]['task'], len(prompts[i])
            got = row[n - 1:n - 1 + len(answers[i])]
            right[task] = right.get(task, 0) + (got == answers[i])
            total[task] = total.get(task, 0) + 1
            if got != answers[i] and len(misses.setdefault(task, [])) < 3:
                misses[task].append((problems[i]['prompt'][-60:], problems[i]['answer'], tok.decode(got, skip_special_tokens=False)))
    exact.misses = misses
    return {task: right[task] / total[task] for task, _, _ in generate.TASKS if task in total}


def figures(accuracy):
    return ' '.join('%s %.1f%%' % (k, 100 * v) for k, v in accuracy.items())


def judge(model, tok, problems, **broken):
    model.eval()
    w = {k: p.detach() for k, p in model.weights().items()}
    return exact(lambda ids: model(ids, w=w, **broken)[0], tok, problems)


def check_transformers(model, out, tok, problems):
    """transformers' GptOss with the files just saved: the difference of its logits, and its accuracy."""
    import transformers
    from transformers import GptOssForCausalLM, Mxfp4Config
    theirs = GptOssForCausalLM.from_pretrained(out, attn_implementation='eager', dtype=torch.float32,
                                               quantization_config=Mxfp4Config(dequantize=True)).float().eval()
    saved = {k: p.detach().cpu() for k, p in model.weights().items()}
    worst, std = 0.0, 0.0
    for p in problems[:16]:
        ids = torch.tensor(encode(tok, [p['prompt'] + p['answer']]))
        with torch.no_grad():
            ours = model(ids, w=saved)[0]
            worst = max(worst, float((theirs(input_ids=ids, use_cache=False).logits - ours).abs().max()))
            std = max(std, float(ours.std()))
    theirs = theirs.cuda()
    accuracy = exact(lambda ids: theirs(input_ids=ids, use_cache=False).logits, tok, problems)
    return {'version': transformers.__version__, 'largest_difference_of_a_logit': worst, 'std_of_logits': std, 'accuracy': accuracy}


def attempt(what, f, *args, **kw):
    try:
        return f(*args, **kw)
    except Exception:
        say(what, 'FAILED')
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()


@torch.no_grad()
def beyond_the_limit(model, tok, problems):
    """Of the gates and ups of all experts for these prompts, the share beyond the limit."""
    gates = ups = n = 0
    limit = model.c['limit']
    for p in problems[:64]:
        watch = []
        model(torch.tensor(encode(tok, [p['prompt']]), device='cuda'), watch=watch)
        for h in watch:
            gates += int((h[..., 0::2] > limit).sum())
            ups += int((h[..., 1::2].abs() > limit).sum())
            n += h[..., 0::2].numel()
    return {'gates': gates / n, 'ups': ups / n}


BROKEN = {'window 0': dict(window=0), 'window 8': dict(window=8), 'no sinks': dict(sinks=False), 'router upside down': dict(router=-1),
          'top-1': dict(topk=1), 'no RoPE': dict(rope=False), 'RoPE theta 150000': dict(theta=150000.0), 'no YaRN': dict(factor=1.0),
          'no clamp': dict(limit=1e9), 'clamp at 1': dict(limit=1.0)}


# --- training ---------------------------------------------------------------------------------------------------------


def train(model, tok, pool, a, problems, report):
    groups = [dict(params=[p], factor=shapes(model.c)[name][3]) for name, p in model.named_parameters()]
    opt = torch.optim.AdamW(groups, lr=a.lr, betas=(.9, .98), eps=1e-10, weight_decay=0.0, fused=True)
    begin, last, step, seen = time.time(), time.time(), 0, 0
    history = report['history'] = []
    while True:
        done = (time.time() - begin) / a.seconds
        if done >= 1 or (a.steps and step >= a.steps):
            break
        for g in opt.param_groups:
            g['lr'] = a.lr * g['factor'] * min(1, (step + 1) / 300) * min(1, (1 - done) / .7)
        ids, document, target = pool.batch(a.batch)
        with torch.autocast('cuda', torch.bfloat16):
            logits, imbalance = model(ids, document)
            label = ids.masked_fill(target == 0, -100)[:, 1:]
            loss = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), label.flatten(), ignore_index=-100)
        (loss + .01 * imbalance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + ids.numel()
        if step in (1, 10, 50, 200) or step % 500 == 0:
            say('step %d, %.0f%%: loss %.4f, imbalance %.3f, %.1f Mtokens, pool of %d rows, %.1f ms a step' % (
                step, 100 * done, loss.item(), imbalance.item(), seen / 1e6, pool.n, 1e3 * (time.time() - begin) / step))
            if not math.isfinite(loss.item()):
                raise RuntimeError('the loss is not finite')
        if time.time() - last > a.every:
            accuracy = judge(model, tok, problems)
            say('step %d: %s' % (step, figures(accuracy)))
            history.append({'step': step, 'loss': loss.item(), 'accuracy': accuracy})
            save(model, a.out, tok)
            write_json(a.out, 'report.json', report)
            last = time.time()
    report.update(steps=step, tokens=seen, train_seconds=time.time() - begin, rows_generated=pool.n, loss=loss.item())


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('out')
    p.add_argument('--seconds', type=float, default=330, help='of training')
    p.add_argument('--steps', type=int, default=0, help='at most')
    p.add_argument('--every', type=float, default=40, help='seconds between judgings')
    p.add_argument('--batch', type=int, default=64, help='rows a step')
    p.add_argument('--lr', type=float, default=1.5e-3)
    p.add_argument('--init', help='a master.pt to start from')
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    say('python %s, torch %s, %s, %d cores' % (sys.version.split()[0], torch.__version__, ' '.join(sys.argv), os.cpu_count()))
    problems = generate.evaluation(100)
    with open(os.path.join(a.out, 'eval.jsonl'), 'w') as f:
        f.writelines(json.dumps(p) + '\n' for p in problems)
    more = generate.evaluation(500, seed=2)

    path = os.path.join(a.out, 'tokenizer.json')
    tok = train_tokenizer(path)
    say('tokenizer: %d tokens' % tok.get_vocab_size())
    for name, make, _ in generate.TASKS:
        q = next(x for x in problems if x['task'] == name)
        lengths = [len(e) for e in encode(tok, [x['prompt'] + x['answer'] + x['stop'] for x in problems if x['task'] == name])]
        say('%s: %d to %d tokens; %s' % (name, min(lengths), max(lengths), tok.encode(q['prompt'] + q['answer'] + q['stop']).tokens[-40:]))
    pool = Pool(path, max(2, (os.cpu_count() or 4) - 2))

    report = {'date': datetime.date.today().isoformat(), 'command': ' '.join(sys.argv), 'seed': SEED, 'config': CONFIG,
              'torch': torch.__version__, 'gpu': torch.cuda.get_device_name()}
    torch.manual_seed(SEED)
    model = Tiny(CONFIG).cuda()
    report['parameters'] = sum(p.numel() for p in model.parameters())
    if a.init:
        attempt('init', lambda: model.load_state_dict(torch.load(a.init)))
    attempt('first save', save, model, a.out, tok)
    first = attempt('transformers before training', check_transformers, model, a.out, tok, problems[:16])
    say('%d parameters; transformers before training: %s' % (report['parameters'], first))
    say('beyond the limit before training:', attempt('limit', beyond_the_limit, model, tok, problems))

    attempt('training', train, model, tok, pool, a, problems, report)
    pool.close()
    attempt('save', save, model, a.out, tok)
    report['accuracy'] = attempt('judge', judge, model, tok, problems) or {}
    say('evaluation set: ' + figures(report['accuracy']))
    for task, misses in exact.misses.items():
        for m in misses:
            say('  missed', task, m)
    report['beyond_the_limit'] = attempt('limit', beyond_the_limit, model, tok, problems)
    say('beyond the limit:', report['beyond_the_limit'])
    report['broken'] = {}
    for name, broken in BROKEN.items():
        report['broken'][name] = attempt(name, judge, model, tok, problems, **broken) or {}
        say('%s: %s' % (name, figures(report['broken'][name])))
    report['transformers'] = attempt('transformers', check_transformers, model, a.out, tok, problems)
    say('transformers:', report['transformers'])
    report['accuracy_500'] = attempt('judge 500', judge, model, tok, more) or {}
    say('500 others of each task: ' + figures(report['accuracy_500']))
    say('sinks', [[round(float(x), 2) for x in row] for row in model.sinks])
    write_json(a.out, 'report.json', report)
    for name in sorted(os.listdir(a.out)):
        say('%9d %s' % (os.path.getsize(os.path.join(a.out, name)), name))


if __name__ == '__main__':
    main()
