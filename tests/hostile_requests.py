"""Sends malformed and hostile requests to `xp serve` and watches its memory.

    tests/hostile_requests.py XP MODEL [REQUESTS=10000]

Every tenth request is a good one, which must be answered. Standard library only.
"""

import atexit
import random
import re
import socket
import subprocess
import sys
from pathlib import Path

xp, model = sys.argv[1:3]
count = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
pictures = sorted((Path(__file__).parent / "fixtures/pictures").glob("*.*"))
pictures = [path.read_bytes() for path in pictures if path.suffix in (".jpg", ".png", ".gif", ".webp", ".bmp")]
good = (Path(__file__).parent / "fixtures/pictures/plain.jpg").read_bytes()
server = subprocess.Popen([xp, "serve", model, "--port", "0", "--quiet"], stdout=subprocess.PIPE, text=True)
atexit.register(server.kill)
host, port = re.match(r"http://(.*):(\d+)", server.stdout.readline()).groups()
rng = random.Random(1)


def post(path, body, head=""):
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def damaged():
    body = bytearray(rng.choice(pictures))
    for _ in range(rng.randint(1, 30)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    return bytes(body[: rng.randint(1, len(body))])


def form():
    body = b"".join(
        b"--cut\r\nContent-Disposition: form-data; name=x; filename=y\r\n\r\n" + damaged() + b"\r\n"
        for _ in range(rng.randint(0, 4))
    )
    end = rng.choice([b"--cut--\r\n", b"", b"--cut"])
    return post("/batch", body + end, "Content-Type: multipart/form-data; boundary=cut\r\n")


# Requests, and whether they are whole: then there is an answer to wait for.
KINDS = [
    lambda: (post("/predict", damaged()), True),
    lambda: (form(), True),
    lambda: (rng.randbytes(rng.randint(1, 3000)), False),
    lambda: (post("/predict?" + "x" * rng.randint(0, 9000), b""), True),
    lambda: (b"GET /" + rng.randbytes(20) + b" HTTP/1.1\r\n\r\n", False),
    lambda: (post("/predict", b"ab")[: rng.randint(1, 80)], False),
    lambda: (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n" + b"x" * 100, False),
    lambda: (b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\nx", False),
    lambda: (b"GET / HTTP/1.1\r\nConnection: close\r\n" + b"A: b\r\n" * rng.randint(0, 300) + b"\r\n", True),
]


def send(request, whole):
    with socket.create_connection((host, int(port)), timeout=30) as stream:
        try:
            stream.sendall(request)
            # Nothing more will come of a part of a request.
            if not whole:
                stream.shutdown(socket.SHUT_WR)
            answer = b""
            while part := stream.recv(65536):
                answer += part
        except ConnectionError:
            return b""
        return answer


def memory():
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


statuses = {}
sizes = []
for index in range(count):
    if index % 10 == 0:
        answer = send(post("/predict", good), whole=True)
        assert answer.startswith(b"HTTP/1.1 200"), (index, answer[:200])
    answer = send(*rng.choice(KINDS)())
    status = answer[9:12].decode(errors="replace") if answer else "closed"
    assert status not in ("500", "502"), answer[:300]
    statuses[status] = statuses.get(status, 0) + 1
    if index % max(1, count // 10) == 0:
        sizes.append(memory())
assert server.poll() is None, "the server has ended"
server.terminate()
assert server.wait(timeout=40) == 0
print(f"{count} hostile requests: {dict(sorted(statuses.items()))}")
print("resident MB:", " ".join(f"{size:.0f}" for size in sizes))
# After the first tenth, in which decoders and threads have taken what they need.
assert sizes[-1] < 1.2 * sizes[min(1, len(sizes) - 1)] + 10, "memory grows"
