#!/usr/bin/env python3
"""generate.py - the problems that models/tiny is trained and judged on. Standard library only; equal seeds give equal text.

    generate.py eval [N [SEED]]     the evaluation set: N problems of each task, one JSON object a line; models/tiny/eval.jsonl
                                    is N = 100, SEED = 1
    generate.py show [N]            N training documents of each task, to look at
    generate.py record ANSWERS      the evaluation set with the log-probabilities of ANSWERS, what -m eval -o wrote for it

A document is a list of (prompt, answer, stop) turns, stop being a special token. A problem belongs to the evaluation set when
the hash of its key is 0 modulo 8, and to training otherwise; so the two share no problem, whatever the seeds.
Special tokens are written as their text: <|start|>.
Add a task: a function here and a row of TASKS.
"""
import json
import random
import sys
import zlib

EOT, RETURN = '<|endoftext|>', '<|return|>'

# Keys of the key-value memory; each becomes one or two tokens.
WORDS = '''acorn amber apple arrow badge bamboo basil beach berry birch blade bloom board bone brick bridge brook brush cabin candle
canoe carrot castle cedar chain chalk cherry clay cliff clock cloud clover coal comet copper coral cotton crane creek crown
daisy dawn desk door dove drum dune eagle ember fern field flame flint flute forest fox frost garden gate glass globe grape
grove hail harbor hawk hazel heron hill honey horn ice iris iron island ivory ivy jade kelp kite ladder lake lamp lantern leaf
lemon lily lime linen lotus maple marble meadow melon mill mint mirror moon moss moth mountain nest oak oar olive onion opal
orchid otter owl palm paper pearl pebble pepper petal pine plum pond poppy quartz rain raven reed ridge river robin rope rose
ruby sail salt sand seed shell silk silver sky slate snow spark spruce star stone storm straw sugar summit sun swan thorn
thread tiger tin torch tower tulip valley velvet vine violet walnut wave wheat willow wind wing wolf wool'''.split()
NAMES = '''Ada Alma Anna Ben Boris Carla Clara Dan David Elena Emma Eric Fay Felix Greta Hana Hugo Ida Ines Ivan Jana Jonas Karl Kira
Lars Lena Leo Lina Mara Marc Mia Nils Nora Olga Omar Otto Paul Petra Rosa Ruth Sam Sara Tara Tim Tom Ulla Vera Yara'''.split()
CITIES = '''Athens Berlin Boston Cairo Delhi Dublin Geneva Havana Kyoto Lima Lisbon London Madrid Milan Munich Nairobi Oslo Paris
Prague Quito Rome Seoul Sofia Sydney Tokyo Turin Vienna Warsaw'''.split()
JOBS = '''baker barber builder carpenter cook dancer doctor driver farmer gardener guide judge lawyer miner nurse painter pilot
plumber poet sailor singer tailor teacher waiter writer'''.split()
COLOURS = 'black blue brown green grey orange pink purple red white yellow'.split()
THINGS = 'bag ball bird book boat bowl box car cap chair coat cup dog dress fish hat horse house key scarf shirt shoe table wall'.split()
UPPER = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'

FAR = 61  # entries of 5 tokens or more between a far fact and its question: more than 300 tokens


def number(r, digits=3):
    return r.randrange(10 ** r.randint(1, digits))


# Each task returns (key, document). In the evaluation set (judge) only the last turn counts and documents are short of extras.


def add(r, judge):
    a, b = number(r), number(r)
    prompt = '%d+%d=' % (a, b)
    return prompt, [(prompt, str(a + b), EOT)]


def subtract(r, judge):
    a, b = number(r), number(r)
    prompt = '%d-%d=' % (a, b)
    return prompt, [(prompt, str(a - b), EOT)]


def sort(r, judge):
    values = [r.randrange(100) for _ in range(r.randint(2, 5))]
    key = ','.join(map(str, values))
    return key, [('sort %s:' % key, ','.join(map(str, sorted(values))), EOT)]


def reverse(r, judge):
    key = ''.join(r.sample(UPPER, r.randint(3, 10)))
    return key, [('reverse %s:' % key, key[::-1], EOT)]


def copy(r, judge):
    key = ''.join(r.choices(UPPER, k=r.randint(4, 16)))
    return key, [('copy %s:' % key, key, EOT)]


def facts(r, n):
    return [(w, '%03d' % r.randrange(1000)) for w in r.sample(WORDS, n)]


def asked(memory, indices):
    """The memory, then a question about each index; each question is a turn."""
    key = ' '.join('%s=%s' % m for m in memory)
    turns = [(' ask: %s=' % memory[i][0], memory[i][1], EOT) for i in indices]
    turns[0] = ('memory: ' + key + turns[0][0],) + turns[0][1:]
    return key, turns


def remember(r, judge):
    n = r.randint(10, 40) if judge else r.randint(2, 40)
    if judge:
        return asked(facts(r, n), [r.randrange(n - 8)])  # 8 entries back: beyond a window of 32
    return asked(facts(r, n), [r.randrange(n) for _ in range(6)])


def recall(r, judge):
    n = r.randint(FAR + 4, FAR + 19)
    if judge:
        return asked(facts(r, n), [r.randrange(n - FAR)])
    return asked(facts(r, n), [r.randrange(r.choice([n, n - FAR])) for _ in range(6)])


def turn(role, text):
    return '<|start|>%s<|message|>%s<|end|>' % (role, text)


def said(channel, text):
    return '<|channel|>%s<|message|>%s' % (channel, text)


def who(r):
    name, job, city = r.choice(NAMES), r.choice(JOBS), r.choice(CITIES)
    question, answer = r.choice([('What is your name?', 'My name is %s.' % name), ('Who are you?', 'I am %s.' % name),
                                 ('What do you do?', 'I am a %s.' % job), ('What is your job?', 'I am a %s.' % job),
                                 ('Where are you from?', 'I am from %s.' % city), ('Where do you live?', 'I live in %s.' % city)])
    system = 'You are %s, a %s from %s.' % (name, job, city)
    return turn('system', system) + turn('user', question), said('final', answer)


def colours(r):
    things = r.sample(THINGS, r.randint(2, 4))
    colour = [r.choice(COLOURS) for _ in things]
    i = r.randrange(len(things))
    told = ' '.join('The %s is %s.' % tc for tc in zip(things, colour))
    return turn('user', '%s What colour is the %s?' % (told, things[i])), said('final', 'The %s is %s.' % (things[i], colour[i]))


def reckon(r):
    a, b = r.randrange(100), r.randrange(100)
    word, sign, c = r.choice([('plus', '+', a + b), ('minus', '-', a - b)])
    asks = turn('user', 'What is %d %s %d?' % (a, word, b))
    return asks, said('analysis', '%d%s%d=%d' % (a, sign, b, c)) + '<|end|><|start|>assistant' + said('final', 'It is %d.' % c)


def greet(r):
    name, colour, city = r.choice(NAMES), r.choice(COLOURS), r.choice(CITIES)
    hello = turn('user', 'I am %s from %s. I like %s.' % (name, city, colour))
    answer = said('final', 'Hello %s!' % name)
    question, last = r.choice([(None, answer), ('What do I like?', said('final', 'You like %s.' % colour)),
                               ('What is my name?', said('final', 'You are %s.' % name)),
                               ('Where do I live?', said('final', 'You live in %s.' % city))])
    if not question:
        return hello, answer
    return hello + '<|start|>assistant' + answer + '<|end|>' + turn('user', question), last


def harmony(r, judge):
    asks, answer = r.choice([who, colours, reckon, greet])(r)
    return asks, [(asks + '<|start|>assistant', answer, RETURN)]


# name, function, share of the training documents
TASKS = [('add', add, 5), ('subtract', subtract, 5), ('sort', sort, 4), ('reverse', reverse, 2), ('copy', copy, 2),
         ('remember', remember, .9), ('recall', recall, .45), ('harmony', harmony, 3)]


def judged(task, key):
    return zlib.crc32(('%s %s' % (task, key)).encode()) % 8 == 0


def problem(name, make, r, judge):
    """A document of this task, of the evaluation set or of training."""
    while True:
        key, document = make(r, judge)
        if judged(name, key) == judge:
            return document


def training(seed):
    """An endless stream of training documents."""
    r = random.Random(seed)
    weights = [share for _, _, share in TASKS]
    while True:
        name, make, _ = r.choices(TASKS, weights)[0]
        yield problem(name, make, r, False)


def evaluation(n, seed=1):
    """n problems of each task: task, prompt, answer, stop. Tasks take turns, so the first lines are a fair sample."""
    made = {}
    for name, make, _ in TASKS:
        r, seen = random.Random('%s %d' % (name, seed)), {}
        while len(seen) < n:
            (prompt, answer, stop), = problem(name, make, r, True)
            seen.setdefault(prompt, dict(task=name, prompt=prompt, answer=answer, stop=stop))
        made[name] = list(seen.values())
    return [made[name][i] for i in range(n) for name, _, _ in TASKS]


def main():
    what = sys.argv[1] if len(sys.argv) > 1 else ''
    n = int(sys.argv[2]) if len(sys.argv) > 2 and what != 'record' else 0
    if what == 'eval':
        for p in evaluation(n or 100, int(sys.argv[3]) if len(sys.argv) > 3 else 1):
            print(json.dumps(p))
    elif what == 'record':
        with open(sys.argv[2]) as f:
            logprob = {(a['task'], a['prompt']): a['logprob'] for a in map(json.loads, f)}
        for p in evaluation(100):
            print(json.dumps(dict(p, logprob=float('%.6g' % logprob[p['task'], p['prompt']]))))
    elif what == 'show':
        for name, make, _ in TASKS:
            r = random.Random(1)
            for _ in range(n or 3):
                print(name + ': ' + ''.join(p + '[' + a + ']' + s for p, a, s in problem(name, make, r, False)))
    else:
        sys.exit(__doc__)


if __name__ == '__main__':
    main()
