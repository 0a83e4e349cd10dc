#!/usr/bin/env python3
"""Gets data out of a Regain repository, without Regain.

Needs Python 3.9 or later and the commands `openssl` and `zstd`; nothing is installed, nothing is sent anywhere, the
repository is only read. FORMAT.txt beside this file says what the bytes mean.

  recover.py list  --key FILE                    recovery points, and logs
  recover.py show  --key FILE POINT              all that is known of a point, as JSON
  recover.py files --key FILE POINT TARGET       one point's files into a new or empty folder
  recover.py log   --key FILE SOURCE TARGET      a source's log segments and histories into a folder

The repository is the folder this file is in, unless --repository names another. The key is a file made by Regain, or
a file that holds the 64 hex digits that `regain key export` shows, or the lines that it prints for paper. With
--passphrase instead of --key it is asked for; --passphrase-file FILE takes it from the first line of a file. If a key
service holds the key (type vault or aws-kms in keys/*): let it decrypt the field "wrapped" there, and give the domain
keys that come out with --domain-key FILE, one a line.
POINT is the first digits of a point's id. Owners, devices and some attributes can only be restored by root.

Exit status: 0 all is well; 1 failed; 2 wrong usage; 3 written, but what the messages name is lost; 12 wrong key.
"""
import argparse
import array
import base64
import collections
import concurrent.futures
import errno
import functools
import getpass
import hashlib
import hmac
import json
import multiprocessing
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import threading
import unicodedata

FRAME = 256 * 1024
TAG = 16
HEADER = 96
DIRECTORY_HEAD, GROUP_RECORD, CHUNK_RECORD, FOOTER = 8, 20, 40, 8
MAX_GROUP, MAX_PACK, MAX_LOG = 8 << 20, 64 << 20, 1 << 30
OBJECT_NAME = re.compile(r'[A-Za-z0-9._-]+\Z')


class Failure(Exception):
    """Nothing more can be done. `status` is the exit status."""

    def __init__(self, message, status=1):
        super().__init__(message)
        self.status = status


class Damaged(Exception):
    """An object, or a part of it, is not what was written."""


problems = 0


def problem(text):
    """Tells of something that is lost; the work goes on."""
    global problems
    problems += 1
    tell(text)


def tell(text):
    print(text, file=sys.stderr, flush=True)


def shown(path):
    """A path for one line of a terminal: nothing in it can act on the terminal."""
    def escape(unit):
        code = ord(unit)
        if 0xDC80 <= code <= 0xDCFF:
            return '\\x%02x' % (code - 0xDC00)
        plain = unit.isprintable() and unit != '\\'
        return unit if plain else '\\\\' if unit == '\\' else '\\u{%x}' % code
    return ''.join(map(escape, path)) or '.'


# ---------------------------------------------------------------------------------------------- keys

def key_from_file(path):
    """The key-encryption key (KEK): regain-key-1:BASE64:CHECK, or 64 hex digits, or four lines of a printed key; lines
    that begin with # are comments."""
    try:
        with open(path, 'rb') as file:
            text = file.read(65536).decode('utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise Failure('The key file %s can not be read: %s' % (path, error), 12)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith('#')]
    if len(lines) == 1 and re.match(r'[0-9A-Fa-f]{64}\Z', lines[0]):
        return bytes.fromhex(lines[0])
    if lines[:1] == ['regain-paper-1']:
        return key_from_paper(lines[1:], path)
    match = re.match(r'regain-key-1:([A-Za-z0-9+/]{43}=):([0-9a-f]{8})\Z', lines[0]) if len(lines) == 1 else None
    if not match:
        raise Failure('%s is not a key file.' % path, 12)
    kek = base64.b64decode(match[1])
    if hashlib.sha256(kek).hexdigest()[:8] != match[2]:
        raise Failure('The key in %s was mistyped or damaged: its check does not match.' % path, 12)
    return kek


def key_from_paper(lines, path):
    """Four lines: number, 16 hex digits in groups, 4 hex digits of a check."""
    parts = {}
    for line in lines:
        digits = re.sub(r'[\s:.-]', '', line).lower().translate(str.maketrans('oilsz', '01152'))
        number, data, check = digits[:1], digits[1:17], digits[17:]
        if not re.match(r'[1-4][0-9a-f]{20}\Z', digits) or number in parts:
            raise Failure('%s: "%s..." is not a line of a printed key.' % (path, line[:2]), 12)
        if hashlib.sha256(b'regain paper key ' + number.encode() + bytes.fromhex(data)).hexdigest()[:4] != check:
            raise Failure('%s: line %s was mistyped: its check does not match.' % (path, number), 12)
        parts[number] = data
    if len(parts) != 4:
        raise Failure('%s: a printed key has four lines, and here are %d.' % (path, len(parts)), 12)
    return bytes.fromhex(''.join(parts[number] for number in '1234'))


def argon2_command(passphrase, salt, memory, passes, lanes):
    """By the `argon2` command, which takes the passphrase on its standard input; None if that can't be done here."""
    if len(passphrase) > 126 or memory & (memory - 1):
        return None
    command = ['argon2', salt, '-id', '-t', str(passes), '-m', str(memory.bit_length() - 1), '-p', str(lanes),
               '-l', '32', '-r']
    try:
        done = subprocess.run(command, input=passphrase, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        return None
    return bytes.fromhex(done.stdout.decode().strip()) if done.returncode == 0 else None


def argon2id(passphrase, salt, memory, passes, lanes):
    """RFC 9106, tag of 32 bytes, no secret, no associated data. In plain Python: a minute or two for 64 MiB."""
    word = 0xFFFFFFFFFFFFFFFF

    def long_hash(data, size):
        data = struct.pack('<I', size) + data
        if size <= 64:
            return hashlib.blake2b(data, digest_size=size).digest()
        out, block = b'', hashlib.blake2b(data).digest()
        while size - len(out) > 64:
            out += block[:32]
            left = size - len(out)
            block = hashlib.blake2b(block, digest_size=min(64, left)).digest()
        return out + block

    def mix(v, a, b, c, d):
        va, vb, vc, vd = v[a], v[b], v[c], v[d]
        va = va + vb + 2 * (va & 0xFFFFFFFF) * (vb & 0xFFFFFFFF) & word
        vd ^= va
        vd = (vd >> 32 | vd << 32) & word
        vc = vc + vd + 2 * (vc & 0xFFFFFFFF) * (vd & 0xFFFFFFFF) & word
        vb ^= vc
        vb = (vb >> 24 | vb << 40) & word
        va = va + vb + 2 * (va & 0xFFFFFFFF) * (vb & 0xFFFFFFFF) & word
        vd ^= va
        vd = (vd >> 16 | vd << 48) & word
        vc = vc + vd + 2 * (vc & 0xFFFFFFFF) * (vd & 0xFFFFFFFF) & word
        vb ^= vc
        v[a], v[b], v[c], v[d] = va, (vb >> 63 | vb << 1) & word, vc, vd

    rows = [[16 * i + j for j in range(16)] for i in range(8)]
    columns = [[2 * i + 16 * j + k for j in range(8) for k in (0, 1)] for i in range(8)]
    turns = [[p[i] for i in q] for p in rows + columns
             for q in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                       (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))]

    def compress(x, y):
        before = [a ^ b for a, b in zip(x, y)]
        v = list(before)
        for a, b, c, d in turns:
            mix(v, a, b, c, d)
        return [a ^ b for a, b in zip(before, v)]

    total = memory // (4 * lanes) * 4 * lanes
    width = total // lanes
    quarter = width // 4
    first = hashlib.blake2b(struct.pack('<6I', lanes, 32, memory, passes, 0x13, 2) + struct.pack('<I', len(passphrase))
                            + passphrase + struct.pack('<I', len(salt)) + salt + struct.pack('<II', 0, 0)).digest()
    blocks = [[None] * width for _ in range(lanes)]
    for lane in range(lanes):
        for i in (0, 1):
            blocks[lane][i] = array.array('Q', struct.unpack('<128Q', long_hash(first + struct.pack('<II', i, lane), 1024)))
    zero = [0] * 128
    for turn in range(passes):
        for part in range(4):
            for lane in range(lanes):
                independent = turn == 0 and part < 2
                counter, numbers = 0, zero
                for i in range(quarter):
                    at = part * quarter + i
                    if independent and i % 128 == 0:
                        counter += 1
                        seed = [turn, lane, part, total, passes, 2, counter] + [0] * 121
                        numbers = compress(zero, compress(zero, seed))
                    if turn == 0 and at < 2:
                        continue
                    previous = blocks[lane][at - 1]
                    pseudo = numbers[i % 128] if independent else previous[0]
                    other = lane if turn == 0 and part == 0 else (pseudo >> 32) % lanes
                    if turn == 0:
                        area = part * quarter + (i - 1 if other == lane else -1 if i == 0 else 0)
                    else:
                        area = width - quarter + (i - 1 if other == lane else -1 if i == 0 else 0)
                    x = (pseudo & 0xFFFFFFFF) ** 2 >> 32
                    start = 0 if turn == 0 or part == 3 else (part + 1) * quarter
                    reference = blocks[other][(start + area - 1 - (area * x >> 32)) % width]
                    new = compress(previous, reference)
                    if turn > 0:
                        new = [a ^ b for a, b in zip(new, blocks[lane][at])]
                    blocks[lane][at] = array.array('Q', new)
    last = blocks[0][-1]
    for lane in range(1, lanes):
        last = [a ^ b for a, b in zip(last, blocks[lane][-1])]
    return long_hash(struct.pack('<128Q', *last), 32)


def key_from_passphrase(passphrase, parameters):
    """None for parameters that Regain never writes: the list of keys is not to be trusted before it opens something."""
    salt, memory, passes, lanes = (parameters.get(k) for k in ('salt', 'memoryKiB', 'passes', 'parallelism'))
    sound = (isinstance(salt, str) and re.match(r'[0-9a-f]{32}\Z', salt)
             and all(isinstance(n, int) for n in (memory, passes, lanes))
             and 1 <= lanes <= 16 and 8 * lanes <= memory <= 1 << 20 and 1 <= passes <= 64 and memory * passes <= 16 << 20)
    if not sound:
        tell('A wrapped key asks for parameters of argon2id that Regain never writes: left out.')
        return None
    data = unicodedata.normalize('NFC', passphrase).encode()
    kek = argon2_command(data, salt, memory, passes, lanes)
    if kek is None:
        tell('Deriving the key from the passphrase in Python: about %d seconds.' % (memory * passes // 4000 + 1))
        kek = argon2id(data, salt.encode(), memory, passes, lanes)
    return kek


def aes_decrypter(key):
    """AES-256, one block at a time, the inverse cipher of FIPS 197. Only for the 24 blocks of a wrapped key, so that
    the keys to everything never appear in the list of processes, as they would as an argument of openssl."""
    def times2(a):
        return a << 1 ^ (0x11B if a & 0x80 else 0)

    exp, log = [0] * 255, [0] * 256
    value = 1
    for i in range(255):
        exp[i], log[value] = value, i
        value ^= times2(value)

    def times(a, b):
        return exp[(log[a] + log[b]) % 255] if a and b else 0

    box = []
    for a in range(256):
        inverse = exp[-log[a] % 255] if a else 0
        box.append(functools.reduce(lambda s, n: s ^ (inverse << n | inverse >> 8 - n) & 255, range(5), 0x63))
    unbox = [box.index(a) for a in range(256)]

    words = [list(key[i:i + 4]) for i in range(0, 32, 4)]
    power = 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = [box[b] for b in word[1:] + word[:1]]
            word[0] ^= power
            power = times2(power)
        elif i % 8 == 4:
            word = [box[b] for b in word]
        words.append([a ^ b for a, b in zip(words[i - 8], word)])
    rounds = [sum(words[i:i + 4], []) for i in range(0, 60, 4)]

    def decrypt(block):
        state = [a ^ b for a, b in zip(block, rounds[14])]
        for number in range(13, -1, -1):
            state = [unbox[state[(4 * (i // 4 - i % 4) + i % 4) % 16]] for i in range(16)]
            state = [a ^ b for a, b in zip(state, rounds[number])]
            if number:
                state = [times(14, state[c + i]) ^ times(11, state[c + (i + 1) % 4]) ^ times(13, state[c + (i + 2) % 4])
                         ^ times(9, state[c + (i + 3) % 4]) for c in (0, 4, 8, 12) for i in range(4)]
        return bytes(state)

    return decrypt


def unwrap(kek, wrapped):
    """AES key wrap, RFC 3394. None if another key wrapped it."""
    if len(wrapped) != 40:
        return None
    decrypt = aes_decrypter(kek)
    a, r = wrapped[:8], [wrapped[i:i + 8] for i in range(8, 40, 8)]
    for step in range(24, 0, -1):
        i = (step - 1) % 4
        block = decrypt((int.from_bytes(a, 'big') ^ step).to_bytes(8, 'big') + r[i])
        a, r[i] = block[:8], block[8:]
    return b''.join(r) if hmac.compare_digest(a, b'\xa6' * 8) else None


def hkdf(key, salt, info, size):
    """RFC 5869 with SHA-256."""
    secret = hmac.digest(salt, key, 'sha256')
    out, block = b'', b''
    while len(out) < size:
        block = hmac.digest(secret, block + info + bytes([len(out) // 32 + 1]), 'sha256')
        out += block
    return out[:size]


class EpochKeys:
    def __init__(self, key, domain, epoch):
        salt = domain + struct.pack('<I', epoch)
        self.identity, self.seal, self.clear, self.identity_wrap = (
            hkdf(key, salt, b'regain v1 ' + label, 32) for label in (b'identity', b'seal', b'clear', b'identity wrap'))


class DomainKeys:
    """`ring`: EpochKeys by epoch. An object is opened by those of the epoch that its header names."""

    def __init__(self, domain, ring, identity):
        self.domain, self.ring = domain, ring
        self.id = hkdf(identity, domain, b'regain v1 chunk id', 32)


# ---------------------------------------------------------------------------------------------- sealed objects

@functools.lru_cache(maxsize=160)
def counter_blocks(frame):
    """What AES turns into a frame's key stream: nonce and block number; 1 masks the tag, the body begins at 2."""
    blocks = bytearray(16 * (FRAME // 16 + 1))
    for byte in range(4):
        shift = 24 - 8 * byte
        blocks[8 + byte::16] = bytes([frame >> shift & 255]) * (FRAME // 16 + 1)
        blocks[12 + byte::16] = bytes(n >> shift & 255 for n in range(1, FRAME // 16 + 2))
    return bytes(blocks)


def encrypt_blocks(key, blocks):
    """AES-256 of each block. The key, which opens a single object, shows in the list of processes while this runs."""
    command = ['openssl', 'enc', '-aes-256-ecb', '-nopad', '-bufsize', str(FRAME), '-K', key.hex()]
    try:
        done = subprocess.run(command, input=blocks, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise Failure('The command openssl is not installed.')
    if done.returncode != 0 or len(done.stdout) != len(blocks):
        raise Failure('openssl failed: %s' % done.stderr.decode(errors='replace').strip())
    return done.stdout


def xor(a, b):
    return (int.from_bytes(a, 'little') ^ int.from_bytes(b, 'little')).to_bytes(len(a), 'little')


class Ghash:
    """The authenticator of GCM (NIST SP 800-38D), by tables of one key's multiples: about 10 to 20 MB a second."""

    def __init__(self, key):
        multiples, value = [], int.from_bytes(key, 'big')
        for _ in range(128):
            multiples.append(value)
            value = value >> 1 ^ (0xE1 << 120 if value & 1 else 0)
        self.tables = []
        for byte in range(16):
            table = [0] * 256
            for bit in range(8):
                table[128 >> bit] = multiples[8 * byte + bit]
            for n in range(256):
                table[n] = table[n & n - 1] ^ table[n & -n] if n & n - 1 else table[n]
            self.tables.append(table)

    def digest(self, data, body):
        blocks = data + bytes(-len(data) % 16) + body + bytes(-len(body) % 16)
        blocks += struct.pack('>QQ', 8 * len(data), 8 * len(body))
        t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, t15 = self.tables
        y, number = 0, int.from_bytes
        for at in range(0, len(blocks), 16):
            a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p = (y ^ number(blocks[at:at + 16], 'big')).to_bytes(16, 'big')
            y = (t0[a] ^ t1[b] ^ t2[c] ^ t3[d] ^ t4[e] ^ t5[f] ^ t6[g] ^ t7[h]
                 ^ t8[i] ^ t9[j] ^ t10[k] ^ t11[l] ^ t12[m] ^ t13[n] ^ t14[o] ^ t15[p])
        return y.to_bytes(16, 'big')


class Sealed:
    """One sealed object. `name` is for messages, `context` what the object was bound to."""

    def __init__(self, keys, kind, context, header, size, name):
        self.name = name
        body = size - HEADER
        self.frames = -(-body // (FRAME + TAG))
        self.plain_size = body - self.frames * TAG
        if len(header) != HEADER or self.plain_size < 0 or self.frames > 1 and self.plain_size <= (self.frames - 1) * FRAME:
            raise Damaged('%s has an impossible length: it was cut or grew' % name)
        if header[:7] != b'REGAIN' + kind.encode():
            raise Damaged('%s is not an object of its kind: its header was changed' % name)
        if header[7] != 1:
            raise Damaged('%s has version %d, which this program does not know' % (name, header[7]))
        epoch_keys = keys.ring.get(struct.unpack_from('<I', header, 24)[0])
        if header[8:24] != keys.domain or epoch_keys is None:
            raise Damaged('%s belongs to another key domain, or to a key epoch whose key is not at hand' % name)
        secret = hkdf(epoch_keys.seal, header[32:64], b'regain v1 object ' + kind.encode(), 64)
        if not hmac.compare_digest(secret[32:], header[64:]):
            raise Damaged('%s was not sealed with this key, or its header was changed' % name)
        self.key = secret[:32]
        self.bound = hashlib.sha256(header + context.encode()).digest()

    def decrypt(self, first, sealed):
        """Frames from number `first` on, NOT authenticated: for packs, whose chunks prove themselves by their ids."""
        return self._frames(first, sealed, None)

    def open(self, sealed):
        """The whole plaintext, every tag checked."""
        return self._frames(0, sealed, b'')

    def _frames(self, first, sealed, check):
        parts = [sealed[at:at + FRAME + TAG] for at in range(0, len(sealed), FRAME + TAG)]
        if not parts or len(parts[-1]) < TAG:
            raise Damaged('%s is shorter than it should be' % self.name)
        masks = [counter_blocks(first + i)[:16 * (1 + -(-(len(part) - TAG) // 16))] for i, part in enumerate(parts)]
        stream = encrypt_blocks(self.key, bytes(16) + b''.join(masks))
        ghash = None if check is None else Ghash(stream[:16])
        plain, at = [], 16
        for i, part in enumerate(parts):
            body, tag = part[:-TAG], part[-TAG:]
            if ghash:
                number = first + i
                data = self.bound + struct.pack('>QB', number, number == self.frames - 1)
                if not hmac.compare_digest(xor(ghash.digest(data, body), stream[at:at + 16]), tag):
                    raise Damaged('%s was changed: frame %d fails its authentication' % (self.name, number))
            plain.append(xor(body, stream[at + 16:at + 16 + len(body)]))
            at += len(masks[i])
        return b''.join(plain)


def zstd(frames, size):
    """Decompresses frames that stand end to end and must give `size` bytes together."""
    try:
        process = subprocess.Popen(['zstd', '-q', '-d', '-c'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        raise Failure('The command zstd is not installed.')

    def feed():
        try:
            process.stdin.write(frames)
            process.stdin.close()
        except BrokenPipeError:
            pass  # It found an error and ended; the wrong size of its output tells.

    feeder = threading.Thread(target=feed)
    feeder.start()
    raw = process.stdout.read(size + 1)
    if len(raw) > size:
        process.kill()
    process.stdout.close()
    feeder.join()
    if process.wait() != 0 or len(raw) != size:
        raise Damaged('does not decompress to what was stored')
    return raw


# ---------------------------------------------------------------------------------------------- packs

Pack = collections.namedtuple('Pack', 'name size groups')
Group = collections.namedtuple('Group', 'offset stored raw method')
Place = collections.namedtuple('Place', 'pack group offset length')


def parse_directory(data, name):
    """Groups, and (id, group, offset, length) of each chunk; and the size of the directory, which begins `data`."""
    if len(data) < DIRECTORY_HEAD:
        raise Damaged('the directory of %s is cut' % name)
    group_count, chunk_count = struct.unpack_from('<II', data)
    at = DIRECTORY_HEAD + group_count * GROUP_RECORD
    end = at + chunk_count * CHUNK_RECORD
    if group_count > 4096 or chunk_count > 65536 or end > len(data):
        raise Damaged('the directory of %s contradicts itself' % name)
    groups, chunks, expected = [], [], 0
    for number in range(group_count):
        offset, stored, raw, count, method = struct.unpack_from('<5I', data, DIRECTORY_HEAD + number * GROUP_RECORD)
        sound = (offset == expected and raw <= MAX_GROUP and offset + stored <= MAX_PACK and method in (0, 1)
                 and (method == 1 or stored == raw) and at + count * CHUNK_RECORD <= end)
        if not sound:
            raise Damaged('the directory of %s contradicts itself' % name)
        expected += stored
        groups.append(Group(offset, stored, raw, method))
        for _ in range(count):
            start, length = struct.unpack_from('<II', data, at + 32)
            if start + length > raw:
                raise Damaged('the directory of %s contradicts itself' % name)
            chunks.append((data[at:at + 32], number, start, length))
            at += CHUNK_RECORD
    if at != end:
        raise Damaged('the directory of %s contradicts itself' % name)
    return groups, chunks, end


worker = {}


def start_worker(keys, folder):
    worker.update(keys=keys, folder=folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def read_chunks(pack, wanted):
    """In a worker process: the wanted chunks (id, Place) of one pack, which lie close together. Gives (id, bytes or
    the reason why there are none); bytes are those that were stored under the id, or they are not given."""
    keys, name = worker['keys'], 'pack %s' % pack.name
    numbers = sorted({place.group for _, place in wanted})
    groups = [pack.groups[number] for number in numbers]
    first = groups[0].offset // FRAME
    last = max(first, (groups[-1].offset + groups[-1].stored - 1) // FRAME)
    try:
        with open(os.path.join(worker['folder'], 'packs', pack.name[:2], pack.name), 'rb') as file:
            # The size that the index gives: what a pack that was cut still has can be read.
            sealed = Sealed(keys, 'P', '', file.read(HEADER), pack.size, name)
            file.seek(HEADER + first * (FRAME + TAG))
            plain = sealed.decrypt(first, file.read((last - first + 1) * (FRAME + TAG)))
    except (OSError, Damaged) as error:
        return [(id, str(error)) for id, _ in wanted]
    stored = [plain[group.offset - first * FRAME:][:group.stored] for group in groups]
    raw = dict(zip(numbers, decompress(groups, stored)))
    results = []
    for id, place in wanted:
        group = raw[place.group]
        chunk = group[place.offset:place.offset + place.length] if group is not None else None
        sound = chunk is not None and hmac.compare_digest(hmac.digest(keys.id, chunk, 'sha256'), id)
        results.append((id, chunk if sound else '%s is damaged' % name))
    return results


def decompress(groups, stored):
    """Raw groups, None where there is none. All in one process; singly if one of them spoils that."""
    packed = [i for i, group in enumerate(groups) if group.method == 1]
    raw = [None if group.method == 1 else data for group, data in zip(groups, stored)]
    if not packed:
        return raw
    try:
        data = zstd(b''.join(stored[i] for i in packed), sum(groups[i].raw for i in packed))
    except Damaged:
        if len(packed) == 1:
            return raw
        return [decompress([group], [data])[0] for group, data in zip(groups, stored)]
    at = 0
    for i in packed:
        raw[i] = data[at:at + groups[i].raw]
        at += groups[i].raw
    return raw


# ---------------------------------------------------------------------------------------------- the repository

class Repository:
    def __init__(self, folder, keys):
        self.folder, self.keys = folder, keys
        self.packs, self.places, self.marked, self.searched = [], {}, set(), False
        self.recent, self.by_group = collections.OrderedDict(), {}
        self.pool = concurrent.futures.ProcessPoolExecutor(
            min(8, os.cpu_count() or 1), multiprocessing.get_context('fork'), start_worker, (keys, folder))

    def read(self, name):
        with open(os.path.join(self.folder, name), 'rb') as file:
            return file.read()

    def names(self, *folders):
        """Names of what is in a folder of the repository, sorted; what can't be an object's name is left out."""
        try:
            names = os.listdir(os.path.join(self.folder, *folders))
        except FileNotFoundError:
            return []
        return sorted(name for name in names if OBJECT_NAME.match(name) and name not in ('.', '..'))

    def open(self, kind, name, bound=True):
        return open_object(self.keys, self.folder, kind, name, bound)

    def points(self, uncounted=False):
        """Points that count: ends/S says commit, and sessions/S is there. Oldest first."""
        points = []
        for id in self.names('ends'):
            if not uncounted and not os.path.exists(os.path.join(self.folder, 'sessions', id)):
                continue
            try:
                end = json.loads(self.open('E', 'ends/' + id))
                if end['end'] == 'commit':
                    if end['point']['id'] != id:
                        raise Damaged('ends/%s speaks of another point' % id)
                    points.append(end['point'])
            except (OSError, Damaged, ValueError, KeyError) as error:
                problem('A recovery point can not be read: %s' % error)
        return sorted(points, key=lambda point: (point['committedAt'], point['id']))

    def load_marked(self):
        try:
            names = self.names('generations')
            return set(json.loads(self.open('G', 'generations/' + max(names)))['tombstones']) if names else set()
        except (OSError, Damaged, ValueError, KeyError) as error:
            tell('Which packs are marked for removal is not known: %s.' % error)
            return set()

    def load_index(self):
        self.marked = self.load_marked()
        for name in self.names('index'):
            try:
                sealed = self.read('index/' + name)
                if hashlib.sha256(sealed).hexdigest() != name:
                    raise Damaged('index/%s was changed' % name)
                data = self.open('I', 'index/' + name, bound=False)
                at = 0
                while at < len(data):
                    pack, size = data[at:at + 32].hex(), struct.unpack_from('<I', data, at + 32)[0]
                    groups, chunks, length = parse_directory(data[at + 40:at + 40 + (4 << 20)], 'pack ' + pack)
                    self.add_pack(pack, size, groups, chunks)
                    at += 40 + length
            except (OSError, Damaged, struct.error) as error:
                tell('A part of the index is lost: %s. What it listed is looked for in the packs themselves.' % error)

    def add_pack(self, name, size, groups, chunks):
        if not os.path.exists(os.path.join(self.folder, 'packs', name[:2], name)):
            return
        self.packs.append(Pack(name, size, groups))
        number = len(self.packs) - 1
        for id, group, offset, length in chunks:
            # A copy that is marked for removal may be damaged, so any other one is better.
            known = self.places.get(id)
            if known is None or self.packs[known.pack].name in self.marked:
                self.places[id] = Place(number, group, offset, length)

    def place(self, id):
        if id not in self.places and not self.searched:
            self.searched = True
            self.search_packs()
        if id not in self.places:
            raise Damaged('a chunk is in no pack: its pack was lost')
        return self.places[id]

    def search_packs(self):
        """Reads the directories of packs that the index does not list, as after the loss of an index segment."""
        known = {pack.name for pack in self.packs}
        for folder in self.names('packs'):
            for name in self.names('packs', folder):
                if name not in known and re.match(r'[0-9a-f]{64}\Z', name):
                    try:
                        self.add_pack(name, *self.pack_directory(name))
                    except (OSError, Damaged, struct.error) as error:
                        problem('A pack that the index does not list can not be used: %s' % error)

    def pack_directory(self, name):
        with open(os.path.join(self.folder, 'packs', name[:2], name), 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            sealed = Sealed(self.keys, 'P', '', file.read(HEADER), size, 'pack ' + name)

            def tail(count):
                first = max(0, sealed.frames - count)
                file.seek(HEADER + first * (FRAME + TAG))
                return sealed.decrypt(first, file.read())

            end = tail(2)
            length = struct.unpack_from('<I', end, len(end) - FOOTER)[0]
            if length > sealed.plain_size - FOOTER:
                raise Damaged('the directory of pack %s can not be found' % name)
            end = tail(2 + (length + FOOTER) // FRAME)
            start = len(end) - FOOTER - length
            groups, chunks, _ = parse_directory(end[start:len(end) - FOOTER], 'pack ' + name)
            return size, groups, chunks

    def chunk(self, id):
        """One chunk of metadata. Neighbours come from the same groups, so what was read with it is kept for a while."""
        if id not in self.recent:
            place = self.place(id)
            pack = self.packs[place.pack]
            near = self.neighbours(place)
            for other, result in self.pool.submit(read_chunks, pack, near).result():
                self.recent[other] = result
            while sum(map(len, self.recent.values())) > 64 << 20 and len(self.recent) > len(near):
                self.recent.popitem(last=False)
        result = self.recent[id]
        if isinstance(result, str):
            raise Damaged(result)
        return result

    def neighbours(self, place):
        if (place.pack, place.group) not in self.by_group:
            self.by_group = collections.defaultdict(list)
            for id, at in self.places.items():
                self.by_group[at.pack, at.group].append((id, at))
        return self.by_group[place.pack, place.group]

    def entries(self, root):
        """All entries of a listing, in order. A page that is lost is told, and the others are read."""
        yield from self.page(bytes.fromhex(root), None, '')

    def page(self, id, level, first):
        try:
            lines = self.chunk(id).decode('utf-8').split('\n')
            head = json.loads(lines[0])['level']
            if lines[-1] != '' or not isinstance(head, int) or head < 0 or level is not None and head != level:
                raise Damaged('a page of the listing does not hold what it should')
            records = [json.loads(line) for line in lines[1:-1]]
        except (Damaged, ValueError, KeyError) as error:
            problem('LOST: the entries from %s on, up to some hundred of them: %s' % (shown(first), error))
            return
        for record in records:
            if head == 0:
                yield record
            else:
                yield from self.page(bytes.fromhex(record['page']), head - 1, record['first'])

    def content(self, entry):
        """Ids of the chunks that hold a file's data, end to end."""
        for key in ('chunks', 'chunkLists'):
            ids = base64.b64decode(entry.get(key, ''))
            for at in range(0, len(ids), 32):
                id = ids[at:at + 32]
                if key == 'chunks':
                    yield id
                else:
                    listed = self.chunk(id)
                    for inner in range(0, len(listed), 32):
                        yield listed[inner:inner + 32]


def open_object(keys, folder, kind, name, bound=True):
    with open(os.path.join(folder, name), 'rb') as file:
        sealed = file.read()
    return Sealed(keys, kind, name if bound else '', sealed[:HEADER], len(sealed), name).open(sealed[HEADER:])


def clear_record(data):
    """A clear object's fields, and the text that its `mac` is about."""
    record = json.loads(data)
    rest = {key: value for key, value in record.items() if key != 'mac'}
    return record, json.dumps(rest, ensure_ascii=False, separators=(',', ':')).encode('utf-8', 'surrogatepass')


def open_repository(options):
    folder = os.path.abspath(options.repository or os.path.dirname(os.path.abspath(__file__)))
    names = os.listdir(os.path.join(folder, 'keys')) if os.path.isdir(os.path.join(folder, 'keys')) else []
    names = sorted(name for name in names if re.match(r'[0-9a-f]{32}-[0-9]+-[0-9a-f]{16}\.json\Z', name))
    if not names:
        raise Failure('%s is not a repository, or its keys were destroyed: there is no wrapped key in keys/.' % folder)
    unwrapped = unwrapper(options)
    domains = {}
    for name in names:
        record, text = wrapped_key(folder, name) or (None, None)
        domain, epoch = (bytes.fromhex(record['domain']), record['epoch']) if record else (None, None)
        if record is None or epoch in domains.get(domain, {}):
            continue
        for key, is_proven in unwrapped(record):
            keys = EpochKeys(key, domain, epoch)
            mac = hmac.new(keys.clear, ('keys/' + name).encode() + b'\0' + text, 'sha256').hexdigest()
            if is_proven or hmac.compare_digest(mac, str(record.get('mac'))):
                domains.setdefault(domain, {})[epoch] = keys, record
    fitting = []
    for domain, opened in domains.items():
        keys = domain_keys(domain, opened)
        if keys:
            fitting.append((identity_problem(folder, keys), keys))
    if not fitting:
        raise Failure('This key does not open the repository.', 12)
    trouble, keys = next((fit for fit in fitting if fit[0] is None), fitting[0])
    if trouble:
        tell('WARNING: repository.json is missing or was changed (%s). Every object is still checked by itself.' % trouble)
    return Repository(folder, keys)


def unwrapper(options):
    """A function that gives the domain keys that a key object may hold, each with whether it is proven to be the one;
    if not, the object's authentication code tells."""
    if options.domain_key:
        given = [(key, False) for key in domain_keys_from_file(options.domain_key)]
        return lambda record: given
    kek = key_from_file(options.key) if options.key else None
    passphrase = None if options.key else passphrase_of(options)
    derived = {}

    def kek_for(record):
        if kek or not record.get('argon2id'):
            return kek
        name = json.dumps(record['argon2id'], sort_keys=True)
        if name not in derived:
            derived[name] = key_from_passphrase(passphrase, record['argon2id'])
        return derived[name]

    def unwrapped(record):
        try:
            wrapped = base64.b64decode(record['wrapped'], validate=True)
        except ValueError:
            return []  # Wrapped by a key service, in its own form.
        candidate = kek_for(record) if len(wrapped) == 40 else None
        key = candidate and unwrap(candidate, wrapped)
        return [(key, True)] if key else []

    return unwrapped


def domain_keys_from_file(path):
    """Domain keys, one a line: 64 hex digits, or 44 characters of base64 as key services give them. For repositories
    whose key is kept by a service, which unwraps the field "wrapped" of an object in keys/."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            lines = [line.strip() for line in file.read(65536).splitlines()]
        lines = [line for line in lines if line and not line.startswith('#')]
        keys = [bytes.fromhex(line) if len(line) == 64 else base64.b64decode(line, validate=True) for line in lines]
    except (OSError, ValueError):
        keys = []
    if not keys or any(len(key) != 32 for key in keys):
        raise Failure('%s holds no domain keys: one a line, 64 hex digits or 44 characters of base64.' % path, 12)
    return keys


def domain_keys(domain, opened):
    """None if the identity key, by which all chunks are named, can not be had. `opened`: by epoch, keys and record."""
    newest, record = opened[max(opened)]
    identity = newest.identity if max(opened) == 1 else None
    try:
        identity = identity or unwrap(newest.identity_wrap, base64.b64decode(record['identity']))
    except (ValueError, KeyError, TypeError):
        pass
    if identity is None:
        tell('A wrapped key is not usable: it holds no identity key.')
        return None
    return DomainKeys(domain, {epoch: keys for epoch, (keys, _) in opened.items()}, identity)


def wrapped_key(folder, name):
    """A key object's record, and the text that its `mac` is about; None if it is not usable."""
    try:
        with open(os.path.join(folder, 'keys', name), 'rb') as file:
            record, text = clear_record(file.read())
        if record['regain'] != 'key' or record['format'] != 1 or not isinstance(record['wrapped'], str):
            raise ValueError('not a wrapped key of format 1')
        if len(bytes.fromhex(record['domain'])) != 16 or not isinstance(record['epoch'], int) or record['epoch'] >> 32:
            raise ValueError('impossible domain or epoch')
        return record, text
    except (OSError, ValueError, KeyError, TypeError) as error:
        tell('keys/%s is not usable: %s' % (name, error))
        return None


def passphrase_of(options):
    if not options.passphrase_file:
        return getpass.getpass('Passphrase: ')
    try:
        with open(options.passphrase_file, encoding='utf-8') as file:
            return file.readline().rstrip('\r\n')
    except (OSError, UnicodeDecodeError) as error:
        raise Failure('The passphrase can not be read: %s' % error, 12)


def identity_problem(folder, keys):
    """repository.json is not needed to read anything, but it says which key and domain are this repository's: others
    may lie beside them, of one that was begun here at the same time and lost. None if it is genuine under these keys."""
    try:
        with open(os.path.join(folder, 'repository.json'), 'rb') as file:
            record, text = clear_record(file.read())
        if record['domain'] != keys.domain.hex() or record['epoch'] not in keys.ring:
            return 'it speaks of another key'
        mac = hmac.new(keys.ring[record['epoch']].clear, b'repository.json\0' + text, 'sha256').hexdigest()
        if not hmac.compare_digest(mac, str(record.get('mac'))):
            return 'its authentication code does not match'
        tell('Repository of service %s.' % shown(str(record['service'])))
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return str(error)


# ---------------------------------------------------------------------------------------------- writing files

class Target:
    """The folder that is filled. Every name is made in a folder that was reached without following a link."""
    KEPT = 64

    def __init__(self, folder):
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
            self.root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            if os.listdir(self.root):
                raise Failure('%s is not empty: give a new folder.' % folder)
            os.chmod(self.root, 0o700)
        except OSError as error:
            raise Failure('%s can not be used: %s' % (folder, error))
        self.handles = collections.OrderedDict()

    @staticmethod
    def parts(path):
        """The components as bytes. Refuses what could lead elsewhere, and text that stands for no bytes."""
        if not isinstance(path, str):
            raise Damaged('a path is not text')
        try:
            data = path.encode('utf-8', 'surrogateescape')
        except UnicodeEncodeError:
            raise Damaged('a path is not text that stands for bytes: %s' % shown(path))
        parts = data.split(b'/') if data else []
        if any(part in (b'', b'.', b'..') or b'\0' in part for part in parts) or data.decode('utf-8', 'surrogateescape') != path:
            raise Damaged('a path that no backup makes: %s' % shown(path))
        return parts

    def folder(self, parts):
        """A handle of a folder, good until some more were asked for."""
        parts = tuple(parts)
        if not parts:
            return self.root
        if parts in self.handles:
            self.handles.move_to_end(parts)
            return self.handles[parts]
        start = next(n for n in range(len(parts) - 1, -1, -1) if n == 0 or parts[:n] in self.handles)
        for n in range(start + 1, len(parts) + 1):
            above = self.handles[parts[:n - 1]] if n > 1 else self.root
            self.handles[parts[:n]] = os.open(parts[n - 1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
            if len(self.handles) > self.KEPT:
                os.close(self.handles.popitem(last=False)[1])
        return self.handles[parts]

    def place(self, path):
        """Handle of the folder above, and the name in it."""
        parts = self.parts(path)
        if not parts:
            raise Damaged('the root of the listing is not a folder')
        return self.folder(parts[:-1]), parts[-1]

    def make_folder(self, path):
        if path != '':
            folder, name = self.place(path)
            os.mkdir(name, 0o700, dir_fd=folder)

    def create(self, path):
        folder, name = self.place(path)
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)

    def remove(self, path):
        folder, name = self.place(path)
        os.unlink(name, dir_fd=folder)


class Attributes:
    """Owner, extended attributes, mode, ACLs, time: in the order in which none undoes another."""

    def __init__(self):
        self.is_root = os.geteuid() == 0

    def apply(self, entry, fd=None, folder=None, name=None):
        def attempt(what, act):
            try:
                act()
                return True
            except (OSError, ValueError, OverflowError, NotImplementedError) as error:
                problem('%s: %s could not be set (%s)' % (shown(entry['path']), what, error))
                return False

        link = entry['type'] == 'symlink'
        where = {'dir_fd': folder} if fd is None else {}
        itself = fd if fd is not None else name
        no_follow = dict(where, follow_symlinks=False) if fd is None else {}
        owned = self.is_root and attempt('owner', lambda: os.chown(itself, entry['uid'], entry['gid'], **no_follow))
        attributes = sorted(entry.get('xattrs', {}).items(), key=lambda item: item[0].startswith('system.posix_acl'))
        lists = [item for item in attributes if item[0].startswith('system.posix_acl')]
        self.extended(entry, [item for item in attributes if item not in lists], attempt, fd, folder, name)
        if not link:
            attempt('mode', lambda: os.chmod(itself, self.mode(entry, owned), **where))
        self.extended(entry, lists, attempt, fd, folder, name)
        if not link and fd is not None and stat.S_IMODE(os.fstat(fd).st_mode) != self.mode(entry, owned):
            problem('%s: the system took a special bit of its mode away' % shown(entry['path']))
        time = int(entry['mtime'])
        attempt('modification time', lambda: os.utime(itself, ns=(time, time), **no_follow))

    def extended(self, entry, attributes, attempt, fd, folder, name):
        for key, value in attributes:
            if not hasattr(os, 'setxattr'):
                problem('%s: extended attributes can not be set on this system' % shown(entry['path']))
                return
            data, key = base64.b64decode(value), key.encode('utf-8', 'surrogateescape')
            if fd is not None:
                attempt('attribute %r' % key, lambda k=key, d=data: os.setxattr(fd, k, d))
            else:
                path = b'/proc/self/fd/%d/%s' % (folder, name)
                attempt('attribute %r' % key, lambda k=key, d=data: os.setxattr(path, k, d, follow_symlinks=False))

    @staticmethod
    def mode(entry, owned):
        """Without the rights of an owner who is not in place."""
        mode = entry['mode'] & 0o7777
        if not owned and entry['uid'] != os.geteuid():
            mode &= ~0o4000
        if not owned and entry['gid'] != os.getegid() and entry['type'] != 'directory':
            mode &= ~0o2000
        return mode


class FileWriter:
    """Takes a file's chunks in order and lays them along its data ranges."""

    def __init__(self, target, attributes, entry):
        self.target, self.attributes, self.entry = target, attributes, entry
        self.lost, self.range, self.within = None, 0, 0
        size = entry.get('size', 0)
        self.ranges = entry.get('extents', [[0, size]] if size else [])
        end = 0
        for offset, length in self.ranges:
            if offset < end or length <= 0:
                self.lose('its ranges contradict each other')
            end = offset + length
        if end > size:
            self.lose('its ranges and its size contradict each other')
        self.fd = target.create(entry['path'])

    def lose(self, reason):
        self.lost = self.lost or reason

    def write(self, data):
        view = memoryview(data)
        while len(view) and not self.lost:
            if self.range == len(self.ranges):
                return self.lose('its chunks hold more than its size')
            offset, length = self.ranges[self.range]
            piece = view[:length - self.within]
            written = os.pwrite(self.fd, piece, offset + self.within)
            view, self.within = view[written:], self.within + written
            if self.within == length:
                self.range, self.within = self.range + 1, 0

    def finish(self):
        """A file is whole or it is not there."""
        if not self.lost and self.range != len(self.ranges):
            self.lose('its chunks hold less than its size')
        try:
            if self.lost:
                self.target.remove(self.entry['path'])
                problem('LOST: %s: %s' % (shown(self.entry['path']), self.lost))
                return 0
            os.ftruncate(self.fd, self.entry.get('size', 0))
            self.attributes.apply(self.entry, fd=self.fd)
            return 1
        finally:
            os.close(self.fd)


class Restore:
    """First pass: folders and files. Second: links and special files, so that nothing is written through one.
    Third: the folders' attributes, the deepest first."""
    WINDOW = 64 << 20
    SPAN = 8 << 20

    def __init__(self, repository, point, folder):
        self.repository, self.point = repository, point
        self.target, self.attributes = Target(folder), Attributes()
        self.files = self.bytes = 0
        self.current = None
        self.waiting = collections.deque()

    def run(self):
        self.write_files()
        for entry in self.entries():
            if 'hardLink' in entry:
                self.guard(entry, self.hard_link)
            elif entry['type'] not in ('file', 'directory'):
                self.guard(entry, self.special)
        self.finish_folders()
        os.sync()

    def entries(self):
        """Entries whose folder came before them; others, which no backup makes, are left out."""
        folders = []
        for entry in self.repository.entries(self.point['listing']):
            try:
                parts = Target.parts(entry['path'])
                while folders and parts[:len(folders[-1])] != folders[-1]:
                    folders.pop()
                if len(parts) > 1 and (not folders or folders[-1] != parts[:-1]):
                    raise Damaged('%s comes without its folder' % shown(entry['path']))
                if entry['type'] == 'directory' and parts:
                    folders.append(parts)
            except Damaged as error:
                problem('LOST: %s' % error)
                continue
            yield entry

    def guard(self, entry, act):
        try:
            act(entry)
        except (OSError, Damaged) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Failure('The target is full.')
            problem('LOST: %s: %s' % (shown(entry['path']), error))

    def write_files(self):
        events, wanted, size = [], {}, 0

        def flush():
            nonlocal events, wanted, size
            self.waiting.append((events, self.fetch(wanted)))
            events, wanted, size = [], {}, 0
            if len(self.waiting) > 1:
                self.play()

        for entry in self.entries():
            if entry['type'] == 'directory':
                self.guard(entry, lambda entry: self.target.make_folder(entry['path']))
            if entry['type'] != 'file' or 'hardLink' in entry:
                continue
            events.append(('open', entry))
            try:
                for id in self.repository.content(entry):
                    if id not in wanted:
                        wanted[id] = self.repository.place(id)
                        size += wanted[id].length
                    events.append(('chunk', id))
                    if size >= self.WINDOW or len(events) >= 100000:
                        flush()
            except Damaged as error:
                events.append(('lost', str(error)))
            events.append(('close', None))
        flush()
        while self.waiting:
            self.play()

    def fetch(self, wanted):
        """Starts to read chunks, those that lie close together at once."""
        jobs, current = [], []
        for id, place in sorted(wanted.items(), key=lambda item: item[1]):
            group = self.repository.packs[place.pack].groups[place.group]
            if current:
                before = current[-1][1]
                start = self.repository.packs[before.pack].groups[current[0][1].group].offset
                end = self.repository.packs[before.pack].groups[before.group]
                apart = group.offset - end.offset - end.stored > 2 * FRAME
                if before.pack != place.pack or apart or group.offset + group.stored - start > self.SPAN:
                    jobs.append(current)
                    current = []
            current.append((id, place))
        if current:
            jobs.append(current)
        return [self.repository.pool.submit(read_chunks, self.repository.packs[job[0][1].pack], job) for job in jobs]

    def play(self):
        """Writes what one window holds."""
        events, jobs = self.waiting.popleft()
        chunks = dict(result for job in jobs for result in job.result())
        for what, value in events:
            if what == 'open':
                self.guard(value, self.open_file)
            elif self.current is None:
                continue
            elif what == 'chunk':
                data = chunks[value]
                if isinstance(data, str):
                    self.current.lose(data)
                else:
                    self.guard(self.current.entry, lambda entry: self.current.write(data))
                    self.bytes += len(data)
            elif what == 'lost':
                self.current.lose(value)
            else:
                self.files += self.current.finish()
                self.current = None

    def open_file(self, entry):
        self.current = None
        self.current = FileWriter(self.target, self.attributes, entry)

    def hard_link(self, entry):
        folder, name = self.target.place(entry['hardLink'])
        first = os.dup(folder)
        try:
            folder, new = self.target.place(entry['path'])
            os.link(name, new, src_dir_fd=first, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(first)

    def special(self, entry):
        folder, name = self.target.place(entry['path'])
        kind = entry['type']
        if kind == 'symlink':
            os.symlink(entry['target'].encode('utf-8', 'surrogateescape'), name, dir_fd=folder)
        elif kind in ('fifo', 'socket'):
            os.mknod(name, 0o600 | (stat.S_IFIFO if kind == 'fifo' else stat.S_IFSOCK), dir_fd=folder)
        elif kind in ('character-device', 'block-device'):
            form = stat.S_IFCHR if kind == 'character-device' else stat.S_IFBLK
            os.mknod(name, 0o600 | form, os.makedev(entry['major'], entry['minor']), dir_fd=folder)
        else:
            raise Damaged('it is of a type that this program does not know: %s' % shown(str(kind)))
        self.attributes.apply(entry, folder=folder, name=name)

    def finish_folders(self):
        pending = []

        def close_until(path):
            while pending and (path is None or not (pending[-1]['path'] == '' or path.startswith(pending[-1]['path'] + '/'))):
                self.guard(pending.pop(), self.finish_folder)

        for entry in self.entries():
            close_until(entry['path'])
            if entry['type'] == 'directory':
                pending.append(entry)
        close_until(None)

    def finish_folder(self, entry):
        self.attributes.apply(entry, fd=self.target.folder(self.target.parts(entry['path'])))


# ---------------------------------------------------------------------------------------------- logs

def read_log(name, kind):
    """In a worker process: bytes of a log object, authenticated, and until when it holds the log."""
    plain = open_object(worker['keys'], worker['folder'], kind, name)
    try:
        line, _, body = plain.partition(b'\n')
        head = json.loads(line)
        size, until = head['bytes'], head['until']
        if not isinstance(size, int) or not 0 <= size <= MAX_LOG:
            raise ValueError('impossible size')
        return zstd(body, size), until
    except (Damaged, ValueError, KeyError) as error:
        raise Damaged('%s does not hold what it should: %s' % (name, error))


class Log:
    def __init__(self, repository, source):
        self.repository, self.prefix = repository, 'log/%s/' % source
        if not OBJECT_NAME.match(source) or source not in repository.names('log'):
            raise Failure('There is no log of a source %s.' % shown(source))

    def pieces(self, part):
        """(branch, name) of all segments, or of all those that have tails."""
        above = [self.prefix.rstrip('/'), part]
        return [(branch, name) for branch in self.repository.names(*above)
                for name in self.repository.names(*above, branch)]

    def histories(self):
        return self.repository.names(self.prefix.rstrip('/'), 'histories')

    def tails(self, branch, name):
        """The longest run from the segment's beginning that its pieces give."""
        data, until = b'', ''
        for piece in self.repository.names(self.prefix.rstrip('/'), 'tails', branch, name):
            number, _, epoch = piece.partition('-')
            if int(epoch or 1) not in self.repository.keys.ring:
                continue  # Left over from a key epoch that has ended; what it held is in a later one.
            offset = int(number)
            if offset > len(data):
                break
            more, its_until = self.repository.pool.submit(
                read_log, '%stails/%s/%s/%s' % (self.prefix, branch, name, piece), 'L').result()
            if offset + len(more) > len(data):
                data, until = data + more[len(data) - offset:], its_until
        return data, until

    def recover(self, folder):
        whole = self.pieces('segments')
        unfinished = [piece for piece in self.pieces('tails') if piece not in set(whole)]
        names = [name for _, name in whole + unfinished] + self.histories()
        if len(set(names)) != len(names):
            raise Failure('Two branches of this log use the same names: this program does not know such a log.')
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
        except OSError as error:
            raise Failure('%s can not be made: %s' % (folder, error))
        for name in self.histories():
            if name.endswith('.conflict'):
                problem('Two servers wrote different bytes for %s: recovery must not go past it.' % name[:-9])
        size = self.segment_size()
        jobs = collections.deque()
        for name in self.histories():
            jobs.append((name, self.repository.pool.submit(read_log, self.prefix + 'histories/' + name, 'H')))
        for branch, name in whole:
            object_name = '%ssegments/%s/%s' % (self.prefix, branch, name)
            jobs.append((name, self.repository.pool.submit(read_log, object_name, 'L')))
            while len(jobs) > 16:
                size = max(size, self.write(folder, *jobs.popleft()))
        while jobs:
            size = max(size, self.write(folder, *jobs.popleft()))
        for branch, name in unfinished:
            self.write_unfinished(folder, branch, name, size or 16 << 20)
        os.sync()
        return len(whole), len(unfinished)

    def segment_size(self):
        """As a point of PostgreSQL tells; 0 if none does."""
        source = self.prefix.split('/')[1]
        sizes = [point['positions'].get('walSegmentBytes') for point in self.repository.points() if point['source'] == source]
        return next((size for size in reversed(sizes) if isinstance(size, int) and 0 < size <= MAX_LOG), 0)

    def write(self, folder, name, job):
        try:
            data, _ = job.result()
            self.save(folder, name, data)
            return len(data)
        except (OSError, Damaged) as error:
            problem('LOST: %s: recovery can not go past it (%s)' % (name, error))
            return 0

    def write_unfinished(self, folder, branch, name, size):
        try:
            data, until = self.tails(branch, name)
            if data:
                self.save(folder, name, data + bytes(max(0, size - len(data))))
                tell('%s was not finished: its first %d bytes are there, up to %s; zeros follow.' % (name, len(data), until))
        except (OSError, Damaged, ValueError) as error:
            problem('LOST: the unfinished %s: %s' % (name, error))

    @staticmethod
    def save(folder, name, data):
        """Whole or not at all, and never over something that is there."""
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, 'There is a file of this name already', path)
        with open(path + '.part', 'xb') as file:
            file.write(data)
        os.rename(path + '.part', path)


# ---------------------------------------------------------------------------------------------- commands

def command_list(repository, options):
    for point in repository.points(options.uncounted):
        missed = '' if point['complete'] else ', INCOMPLETE: %d missed' % point['missedCount']
        print('%s  %s  %s (%s)  %d entries, %d bytes%s%s' % (
            point['id'][:12], point['committedAt'], shown(point['source']), shown(point['sourceType']), point['entries'],
            point['bytes']['source'], missed, ', label ' + shown(point['label']) if 'label' in point else ''))
    for source in repository.names('log'):
        log = Log(repository, source)
        segments = [name for _, name in log.pieces('segments')]
        span = ', %s to %s' % (segments[0], segments[-1]) if segments else ''
        print('log of %s: %d segments%s, %d unfinished' % (
            source, len(segments), span, len(set(log.pieces('tails')) - set(log.pieces('segments')))))


def find_point(repository, options):
    matches = [point for point in repository.points(options.uncounted) if point['id'].startswith(options.point)]
    if len(matches) != 1 or len(options.point) < 4:
        raise Failure('%d recovery points begin with %s; give at least four digits, and enough to tell it from others.'
                      % (len(matches), shown(options.point)))
    return matches[0]


def command_show(repository, options):
    print(json.dumps(find_point(repository, options), indent=2))


def command_files(repository, options):
    point = find_point(repository, options)
    repository.load_index()
    if os.geteuid() != 0:
        tell('Not root: all files will belong to the user who runs this; devices and some attributes can not be made.')
    restore = Restore(repository, point, options.target)
    restore.run()
    for missed in point['missed']:
        tell('Not in this point since it was made: %s: %s' % (shown(missed['path']), shown(missed['detail'])))
    tell('%d files with %d bytes of data were written to %s.' % (restore.files, restore.bytes, options.target))


def command_log(repository, options):
    whole, unfinished = Log(repository, options.source).recover(options.target)
    tell('%d segments and %d unfinished ones were read.' % (whole, unfinished))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True, metavar='list | show | files | log')
    commands_known = {'list': [], 'show': ['point'], 'files': ['point', 'target'], 'log': ['source', 'target']}
    for name, positional in commands_known.items():
        command = commands.add_parser(name)
        secret = command.add_mutually_exclusive_group(required=True)
        secret.add_argument('--key', metavar='FILE', help='key file, or a file with 64 hex digits')
        secret.add_argument('--domain-key', metavar='FILE', help='file with domain keys, as a key service unwrapped them')
        secret.add_argument('--passphrase', action='store_true', help='ask for the passphrase')
        secret.add_argument('--passphrase-file', metavar='FILE', help='its first line is the passphrase')
        command.add_argument('--repository', metavar='FOLDER', help='default: the folder of this program')
        if name != 'log':
            command.add_argument('--uncounted', action='store_true',
                                 help='also points whose session object is gone: removed on purpose, or by damage')
        for argument in positional:
            command.add_argument(argument, metavar=argument.upper())
    return parser.parse_args()


def main():
    options = parse_arguments()
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors='backslashreplace')
    repository = None
    try:
        repository = open_repository(options)
        {'list': command_list, 'show': command_show, 'files': command_files,
         'log': command_log}[options.command](repository, options)
    except Failure as failure:
        tell('FAILED: %s' % failure)
        return failure.status
    except concurrent.futures.process.BrokenProcessPool:
        tell('FAILED: a process that reads the repository was ended by the system: too little memory?')
        return 1
    except OSError as error:
        tell('FAILED: %s' % error)
        return 1
    except KeyboardInterrupt:
        tell('Interrupted: what was written is incomplete.')
        return 130
    finally:
        if repository:
            repository.pool.shutdown(cancel_futures=True)
    if problems:
        tell('%d PROBLEMS: see above. All else is as it was backed up.' % problems)
    return 3 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
