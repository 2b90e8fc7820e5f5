"""named_files.py - prints every file that a comment or a manual names and that is not in the repository, with the comment's place.

A name is a path from the top, from the file's own folder, or the end of a path; * is any text. Words in capitals stand for what a user
names (FILE.lua); what others own, what is only an example and what is made at run time is listed here.
"""
import fnmatch
import os
import re

OTHERS = {'amd_comgr.h', 'cuda.h', 'hip_runtime_api.h', 'hiprtc.h', 'llama2.c', 'modeling_rope_utils.py', 'nvrtc.h'}
EXAMPLES = {'k.hip', 'linear_K64_N128.c', 'linear_K64_N512.c', 'linear_K128_N768.c', 'my.lua', 'rows_N64.c', 'there-is-none.lua',
            'x.lua'}
MADE = {'interrupt.py', '.carry/h200_check.sh', '.carry/gpus_check.sh'}

NAME = re.compile(r'[\w./*-]*[\w*]\.(?:c|h|inc|def|md|lua|sh|py|hip)\b(?![\w(.])')
C_COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*', re.S)
LINE_COMMENT = {'.lua': re.compile(r'--[^\n]*'), '': re.compile(r'(?:^|(?<=\s))#[^\n]*|""".*?"""', re.M | re.S)}
WHOLE = re.compile(r'.+', re.S)


def comments(path):
    end = os.path.splitext(path)[1]
    if end in ('.c', '.h', '.inc', '.def', '.hip'):
        return C_COMMENT
    if end in ('.md', '.1'):
        return WHOLE
    if end == '.lua':
        return LINE_COMMENT[end]
    return LINE_COMMENT[''] if end in ('', '.sh', '.py') else None


def repository():
    for folder, folders, files in os.walk('.'):
        folders[:] = [f for f in folders if f not in ('.git', 'out', '.carry', '.proto', 'shared')]
        for f in files:
            yield os.path.relpath(os.path.join(folder, f), '.')


def main():
    files = list(repository())
    ends = {f[i:] for f in files for i in [0] + [m.end() for m in re.finditer('/', f)]}

    def known(name, folder):
        if os.path.basename(name) in OTHERS | EXAMPLES or name in MADE or re.search(r'[A-Z]{2,}|\b[A-Z]\b', name):
            return True
        paths = {name, os.path.normpath(os.path.join(folder, name))}
        return bool(paths & ends) or '*' in name and bool(fnmatch.filter(ends, name))

    for path in files:
        pattern = comments(path)
        if not pattern or path.endswith('.err'):
            continue
        with open(path, encoding='utf-8', errors='replace') as f:
            text = f.read()
        own = set(re.findall(r'^```lua\n-- ([\w.]+)', text, re.M))  # an example that the page gives
        for c in pattern.finditer(text):
            for m in NAME.finditer(c.group()):
                if m.group() not in own and not known(m.group(), os.path.dirname(path)):
                    print('%s:%d: %s' % (path, text.count('\n', 0, c.start() + m.start()) + 1, m.group()))


main()
