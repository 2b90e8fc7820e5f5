"""poison.py FILE.safetensors TOKEN: one element of the token's row of the embedding becomes a NaN."""
import json
import struct
import sys

with open(sys.argv[1], 'r+b') as f:
    n = struct.unpack('<Q', f.read(8))[0]
    t = json.loads(f.read(n))['model.embed_tokens.weight']
    size, nan = {'BF16': (2, b'\xc0\x7f'), 'F32': (4, b'\0\0\xc0\x7f')}[t['dtype']]
    f.seek(8 + n + t['data_offsets'][0] + (int(sys.argv[2]) * t['shape'][1] + 3) * size)
    f.write(nan)
