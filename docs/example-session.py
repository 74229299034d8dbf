"""The example session of protocol.md as a program: Python's standard library and that page, nothing else.

    python3 docs/example-session.py http://127.0.0.1:3000

Prints what is sent and received; ends with 0 when everything was as the page says. The assistant has to be the built-in one.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys
import urllib.request
import uuid

base = sys.argv[1].rstrip('/') if len(sys.argv) > 1 else 'http://127.0.0.1:3000'
host, port = base.split('//')[1].split(':')
ignored = ('typing', 'receipt.updated', 'presence')
assistant = '00000000-0000-7000-8000-0000000a1000'


def rest(method, path, body=None, token=None):
    request = urllib.request.Request(base + path, method=method, data=None if body is None else json.dumps(body).encode())
    if body is not None:
        request.add_header('Content-Type', 'application/json')
    if token:
        request.add_header('Authorization', 'Bearer ' + token)
    with urllib.request.urlopen(request) as response:
        answer = json.loads(response.read())
    print('→', method, path, body or '')
    print('←', response.status, json.dumps(answer, ensure_ascii=False))
    return response.status, answer


class Socket:
    def __init__(self, name):
        self.name = name
        self.buffer = b''
        self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(10)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f'GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
            f'Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n'.encode()
        )
        while b'\r\n\r\n' not in self.buffer:
            self.buffer += self.socket.recv(4096)
        head, self.buffer = self.buffer.split(b'\r\n\r\n', 1)
        assert b' 101 ' in head.split(b'\r\n')[0], head

    def send(self, **frame):
        print(self.name, '→', json.dumps(frame, ensure_ascii=False))
        data = json.dumps(frame).encode()
        mask = os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b'\xfe' + struct.pack('>H', len(data))
        self.socket.sendall(b'\x81' + size + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(data)))

    def take(self, count):
        while len(self.buffer) < count:
            more = self.socket.recv(65536)
            assert more, 'closed'
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def receive(self):
        while True:
            first, size = self.take(2)
            if size == 126:
                size = struct.unpack('>H', self.take(2))[0]
            elif size == 127:
                size = struct.unpack('>Q', self.take(8))[0]
            data = self.take(size)
            if first & 15 != 1:
                continue  # a ping; this session is over before one has to be answered
            frame = json.loads(data)
            if frame['type'] not in ignored:
                print(self.name, '←', json.dumps(frame, ensure_ascii=False))
                return frame

    def expect(self, kind, **fields):
        frame = self.receive()
        assert frame['type'] == kind, frame
        for name, value in fields.items():
            assert frame.get(name) == value, (name, value, frame)
        return frame

    def until(self, kind):
        frames = [self.receive()]
        while frames[-1]['type'] != kind:
            frames.append(self.receive())
        return frames


def new_id():
    return str(uuid.uuid4())


# Two accounts.
run = new_id()[:8]
people = {}
for name in ('ana', 'ben'):
    status, account = rest(
        'POST', '/api/auth/register',
        {'email': f'{name}_{run}@example.org', 'password': 'correct horse 1', 'username': f'{name}_{run}'},
    )
    assert status == 201 and account['token_type'] == 'Bearer'
    people[name] = (account['user']['id'], account['access_token'])
ana_id, ana_token = people['ana']
ben_id, ben_token = people['ben']

# Two sockets.
ben = Socket('Ben')
ben.send(type='auth', token=ben_token, requestId='1')
ben.expect('ready', userId=ben_id, heartbeatMs=15000, conversations=[], others=[], requestId='1')
ana = Socket('Ana')
ana.send(type='auth', token=ana_token)
ana.expect('ready', userId=ana_id)

# A direct chat.
status, found = rest('GET', f'/users/search?q=ben_{run}', token=ana_token)
assert found['items'][0]['id'] == ben_id
status, made = rest('POST', '/conversations', {'type': 'dm', 'usernames': [f'ben_{run}']}, ana_token)
assert status == 201 and made['head_seq'] == 2 and made['title'] is None
dm = made['id']
for who in (ana, ben):
    who.expect(
        'conversation.added', conversationId=dm, conversation={'id': dm, 'type': 'dm', 'headSeq': 0}
    )
    who.expect('room.member_joined', conversationId=dm, seq=1, userId=ana_id, role='member')
    who.expect('room.member_joined', conversationId=dm, seq=2, userId=ben_id, role='member')

# A message, its ack and its delivery; the same id again.
first = new_id()
ana.send(type='message.send', conversationId=dm, clientMessageId=first, content='Hello Ben', requestId='2')
ack, message = sorted((ana.receive(), ana.receive()), key=lambda frame: frame['type'])
assert (ack['type'], ack['seq'], ack['duplicate'], ack['requestId']) == ('ack', 3, False, '2')
assert ben.receive() == message and message['seq'] == 3 and message['content'] == 'Hello Ben'
ana.send(type='message.send', conversationId=dm, clientMessageId=first, content='Hello Ben')
ana.expect('ack', seq=3, messageId=ack['messageId'], duplicate=True)

# A resume.
ben.socket.close()
ana.send(type='message.send', conversationId=dm, clientMessageId=new_id(), content='Are you there?')
ana.until('ack')
ben = Socket('Ben')
ben.send(type='auth', token=ben_token)
known = ben.expect('ready')['conversations'][0]
assert known == {'id': dm, 'type': 'dm', 'headSeq': 4, 'readSeq': 0, 'unread': 2}
ben.send(type='room.join', conversationId=dm, afterSeq=3, requestId='3')
ben.expect('message.new', seq=4, content='Are you there?')
ben.expect('room.joined', headSeq=4, firstSeq=1, requestId='3')
ben.send(type='receipt.read', conversationId=dm, seq=4)

# A turn of the assistant.
status, made = rest('POST', '/conversations', {'type': 'ai', 'title': 'Questions'}, ana_token)
assert status == 201
ai = made['id']
ana.send(type='room.join', conversationId=ai)
joined = ana.until('room.joined')[-1]
assert joined['headSeq'] == 1 and joined['firstSeq'] == 1
ana.send(type='chat.send', conversationId=ai, clientMessageId=new_id(), content='#stream words=6 delay_ms=50')
frames = [frame for frame in ana.until('chat.done') if frame.get('conversationId') == ai]
of = lambda kind: [frame for frame in frames if frame['type'] == kind]
question, answer = of('message.new')
(started,), (done,) = of('chat.started'), of('chat.done')
assert of('ack')[0]['seq'] == question['seq'] == 2
assert started['seq'] == 3 and started['inReplyTo'] == 2 and started['requestedBy'] == ana_id
text = ''
for piece in of('chat.stream'):
    assert piece['messageId'] == started['messageId'] and piece['offset'] == len(text.encode())
    text += piece['content']
assert text == answer['content'] == 'alpha1 river2 größe3 cloud4 maple5 日本語6'
assert answer['messageId'] == started['messageId'] == done['messageId'] and answer['senderId'] == assistant
assert answer['finish'] == done['finish'] == 'stop' and answer['seq'] == done['seq'] == 4
assert done['bytes'] == len(text.encode()) == 47 and done['sha256'] == hashlib.sha256(text.encode()).hexdigest()

# The log, read again.
status, log = rest('GET', f'/conversations/{dm}/events?after=2', token=ben_token)
assert [event['seq'] for event in log['items']] == [3, 4] and log['first_seq'] == 1 and log['head_seq'] == 4
assert log['items'][0] == message

# A wrong frame.
ana.send(type='message.send', conversationId=dm, clientMessageId=new_id(), content=' ', requestId='9')
error = ana.until('error')[-1]
assert error['code'] == 'VALIDATION' and error['field'] == 'content' and error['retryable'] is False
assert error['requestId'] == '9'

print('As the page says.')
