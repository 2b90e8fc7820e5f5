"""faults.py TMP EVERY [SCENARIO | SCENARIO-CLASS…]: each call of each class of a scenario fails once (of every EVERY-th one), by tests/faults/shim.c or in the
fake HIP library. A run must end by itself, with status 0 and the right result (what failed was not needed), or with status 1, a message that
names the cause, and what was there before untouched. Prints a line a scenario and class, and each point that was not so.

EVERY 1 is all of them; "stacks": of those that are reached by the same functions, calling each other, the first. Points are taken at an offset that differs by class, so that rare calls are met too."""
import collections
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

HERE = os.getcwd()
TMP, STACKS, ONLY = sys.argv[1], sys.argv[2] == 'stacks', sys.argv[3:]
EVERY = 1 if STACKS else int(sys.argv[2])
SHIM, FAKE = HERE + '/out/tests/faults/shim.so', HERE + '/out/tests/fakehip'
CLASSES = 'memory map open read write sync name fork thread'.split()
CAUSE = re.compile('memory|Cannot allocate|No space left|Input/output error|Too many open files|temporarily unavailable|thread|read failed|'
                   'hipError|device hip|shared object')
OLD = b'what was here before\n'


def run(folder, command, **env):
    p = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env=dict(os.environ, **{k: str(v) for k, v in env.items()}))
    try:
        out, err = p.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        p.kill()
        return 'hung', b'', p.communicate()[1]
    return p.returncode, out, err


class Scenario:
    def __init__(self, name, program, args, result, classes=CLASSES, cold=None, env=None):
        self.name, self.command, self.result = name, [HERE + '/out/' + program] + args, result
        self.classes, self.cold, self.env = classes, cold, env or {}
        self.want = self.count = None

    def count_all(self):
        """Without a fault: what is right, and how many calls of each class there are."""
        self.go('warm', LD_PRELOAD=SHIM, FAULT_CALLS='all', FAULT_COUNT='count')

    def go(self, at, **fault):
        """In a folder of its own, with an old result in it: what was wrong, or None; and what failed."""
        folder = '%s/%s.%s' % (TMP, self.name, at)
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        with open(folder + '/' + self.result, 'wb') as f:
            f.write(OLD)
        if self.cold:  # one entry is missing: one kernel is compiled
            shutil.copytree(TMP + '/cache', folder + '/cache')
            os.unlink(folder + '/cache/' + self.cold)
        env = dict({'GPTOSS_CACHE': (folder if self.cold else TMP) + '/cache'}, **self.env, **fault)
        status, out, err = run(folder, self.command, **env)
        with open(folder + '/' + self.result, 'rb') as f:
            got = f.read()
        left = set(os.listdir(folder)) - {self.result, self.result + '.parts', 'cache', 'says', 'count', 'log', 'stacks'}
        says = open(folder + '/says').read() if os.path.exists(folder + '/says') else ''
        if os.path.exists(folder + '/count'):
            self.count = {kind: int(n) for kind, n in map(str.split, open(folder + '/count'))}
        self.first = [int(n) for n in open(folder + '/stacks')] if os.path.exists(folder + '/stacks') else []
        self.log = open(folder + '/log').read() if os.path.exists(folder + '/log') else ''
        text = err.decode(errors='replace')
        shutil.rmtree(folder, ignore_errors=True)
        if self.want is None:
            if status:
                sys.exit('%s: exit %s without a fault: %s' % (self.name, status, text))
            self.want = got
        why = None
        if status not in (0, 1):
            why = 'exit %s' % status
        elif status == 0 and got != self.want:
            why = 'exit 0, and another result'
        elif status == 1 and got not in (OLD, self.want):
            why = 'a result of %d bytes that is neither the old nor the new one' % len(got)
        elif status == 1 and not CAUSE.search(text):
            why = 'no cause is named'
        elif left:
            why = 'left behind: %s' % ' '.join(sorted(left))
        elif 'fakehip: WRONG' in text and 'FAKEHIP_LAX' not in env:
            why = re.search('fakehip: WRONG.*', text).group()
        return why and '%s: %s' % (why, ' / '.join(text.strip().split('\n')[-2:])), says, status


def points(n, salt):
    return range(1 + salt % EVERY if n > EVERY else 1 + salt % max(n, 1), n + 1, EVERY)


def each(scenario, kind, cases, n=0):
    """cases: (what, environment)."""
    ended = collections.Counter()
    bad = []
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs = [(what, pool.submit(scenario.go, '%s%d' % (kind, i), **env)) for i, (what, env) in enumerate(cases)]
        for what, job in jobs:
            why, says, status = job.result()
            ended[status] += 1
            if why:
                bad.append('%s %s: %s' % (what, says, why))
    name = '%s-%s' % (scenario.name, kind)
    print('%s %s: %d points%s, %d of them harmless' % ('FAIL' if bad else 'ok', name, len(cases), ' of %d' % n if n else '', ended[0]))
    for b in bad:
        print('    ' + b, file=sys.stderr)
        print('    ' + b)
    sys.stdout.flush()
    return len(cases), len(bad)


def shim(scenario, kind):
    # What is opened is little, and what cannot be opened is easily taken for what is not there.
    stacks = STACKS or (scenario.name == 'compile-host' and kind == 'open' and EVERY > 1)
    if stacks:
        scenario.go('stacks', LD_PRELOAD=SHIM, FAULT_CALLS=kind, FAULT_STACKS='stacks')
    n = scenario.count[kind]
    salt = sum(map(ord, scenario.name + kind))
    if kind == 'name' and scenario.name != 'compile-host':  # the result's; a cache without a folder, met there, costs all kernels anew
        salt = n - 1
    which = sorted(scenario.first) if stacks else points(n, salt)
    env = dict(LD_PRELOAD=SHIM, FAULT_CALLS=kind, FAULT_SAYS='says')
    if kind in ('memory', 'map'):  # the library's own may be met, and who is out of memory leaves what it has
        env['FAKEHIP_LAX'] = 1
    return each(scenario, kind, [('%s %d of %d' % (kind, i, n), dict(env, FAULT_AT=i)) for i in which], n) if n else (0, 0)


def in_parts(scenario):
    """Each read and write takes a few bytes, or is interrupted: it is no fault."""
    why, _, status = scenario.go('part', LD_PRELOAD=SHIM, FAULT_PART=1)
    why = why or status and 'exit %s' % status
    print('FAIL %s-part: %s' % (scenario.name, why) if why else 'ok %s-part: reads and writes of a few bytes, a third of them interrupted' % scenario.name)
    return 1, bool(why)


def full_disk(scenario):
    """From some write on all fail, as do those that try again."""
    n = scenario.count['write']
    env = dict(LD_PRELOAD=SHIM, FAULT_CALLS='write', FAULT_FOR=1000000000, FAULT_SAYS='says')
    # What cannot even say why it failed still fails.
    return each(scenario, 'full', [('from write %d of %d' % (i, n), dict(env, FAULT_AT=i)) for i in points(n, len(scenario.name))])


def device(scenario):
    scenario.go('count', FAKEHIP_LOG='log')
    calls = [line.split() for line in scenario.log.split('\n') if line.startswith('hip') and '@' not in line]
    # What closes cannot fail in a way that matters; names are only for messages.
    calls = [(c, int(n)) for c, n, *_ in calls if not re.search('Destroy|Free$|Unload|GetErrorName|PCIBusId|DeviceGetName', c)]
    every = [(c, k) for c, n in calls for k in range(1, n + 1)]
    every = [every[i - 1] for i in points(len(every), 3)]
    return each(scenario, 'device', [('%s %d' % p, dict(FAKEHIP_FAIL='%s:%d:999' % p)) for p in every])


def main():
    getp = ['-w', TMP + '/model', '-m', 'getp', '--input-ids', '-i', TMP + '/in', '-o', 'ids']
    short = getp + ['-t', '2', '-n', '5']
    graph = [HERE + '/graphs/gpt_oss.lua', '--model', TMP + '/model', '--max-batch', '8', '--max-tokens', '32', '-o', 'plan']
    few = [c for c in CLASSES if STACKS or c != 'memory']
    entries = lambda names: {n for n in names if n.endswith('.rtc')}
    host = entries(open(TMP + '/host.list').read().split())
    cold = {'host': min(host), 'gfx90a': min(entries(os.listdir(TMP + '/cache')) - host)}
    scenarios = [
        Scenario('compile-host', 'gptoss-compile', graph + ['--arch', 'host'], 'plan'),
        Scenario('compile-gfx90a', 'gptoss-compile', graph + ['--arch', 'gfx90a'], 'plan'),
        Scenario('compile-host-cold', 'gptoss-compile', graph + ['--arch', 'host'], 'plan', few, cold['host']),
        Scenario('compile-gfx90a-cold', 'gptoss-compile', graph + ['--arch', 'gfx90a'], 'plan', few, cold['gfx90a']),
        Scenario('getp-host', 'gptoss-exec', [TMP + '/host.bin'] + getp + ['-n', '12'], 'ids'),
        Scenario('getp-ref', 'gptoss-exec', [TMP + '/host.bin', '--device', 'ref'] + short, 'ids'),
        Scenario('getp-emu', 'gptoss-exec', [TMP + '/gfx90a.bin', '--device', 'emu'] + short, 'ids', env={'GPTOSS_CACHE': TMP + '/none'}),
        Scenario('getp-emu-kept', 'gptoss-exec', [TMP + '/gfx90a.bin', '--device', 'emu'] + short, 'ids', few),
        Scenario('getp-hip', 'gptoss-exec', [TMP + '/gfx90a.bin', '--device', 'hip'] + short, 'ids', env={'LD_LIBRARY_PATH': FAKE}),
    ]
    if not os.path.exists(FAKE + '/libamdhip64.so.5'):
        print('skip hip: no HIP headers (libamdhip64-dev), so no fake HIP library')
        scenarios.pop()
    total = bad = 0
    for s in scenarios:
        kinds = {k: lambda s=s, k=k: shim(s, k) for k in s.classes}
        kinds['full'] = lambda s=s: full_disk(s)
        kinds['part'] = lambda s=s: in_parts(s)
        if s.name == 'getp-hip':
            kinds['device'] = lambda s=s: device(s)
        kinds = [f for k, f in kinds.items() if not ONLY or s.name in ONLY or s.name + '-' + k in ONLY]
        if kinds:
            s.count_all()
        for kind in kinds:
            n, b = kind()
            total, bad = total + n, bad + b
    print('%d points, %d bad' % (total, bad))


main()
