"""Starts programs in ways that no shell can.

    caller.py no-arguments PROGRAM       with an empty argument vector
    caller.py record KIND PROGRAM        with a record of this kind on descriptor 9
    caller.py blocked-signals COMMAND…   with all signals blocked
    caller.py without-openat2 COMMAND…   where the system call openat2 does not exist (and, but for root, with
                                         no_new_privs, which users must set to filter system calls)
"""
import ctypes
import fcntl
import os
import signal
import struct
import sys
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
RECORD = 9
GOOD = b"berth-run 1\0ocontainer=none\0ctrue\0ePATH=/usr/bin\0"
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed(content, seals=SEALS):
    fd = os.memfd_create("record", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def make_fifo():
    path = os.path.join(tempfile.mkdtemp(dir="."), "fifo")
    os.mkfifo(path)
    return os.open(path, os.O_RDWR)


def make_file():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR)
    os.write(fd, GOOD)
    return fd


def make_huge():
    fd = os.memfd_create("record", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 1 << 40)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


RECORDS = {
    "good": lambda: sealed(GOOD),
    "directory": lambda: os.open("/", os.O_RDONLY),
    "fifo": make_fifo,
    "file": make_file,
    "unsealed": lambda: sealed(GOOD, fcntl.F_SEAL_SHRINK),
    "empty": lambda: sealed(b""),
    "huge": make_huge,
    "garbage": lambda: sealed(os.urandom(4096)),
    "truncated": lambda: sealed(GOOD[:-5]),
    "unknown-option": lambda: sealed(GOOD + b"opolicy=/tmp/mine\0"),
}


def main():
    kind, arguments = sys.argv[1], sys.argv[2:]
    if kind == "no-arguments":
        path = arguments[0].encode()
        vector = (ctypes.c_char_p * 1)(None)
        libc.execve(path, vector, vector)
    elif kind == "record":
        os.dup2(RECORDS[arguments[0]](), RECORD)
        os.set_inheritable(RECORD, True)
        os.execve(arguments[1], ["berth-enter", str(RECORD)], {})
    elif kind == "blocked-signals":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.execvp(arguments[0], arguments)
    elif kind == "without-openat2":
        forbid_openat2()
        os.execvp(arguments[0], arguments)
    sys.exit("nothing was started")


def forbid_openat2():
    """seccomp(2): a program of four instructions that answers ENOSYS to openat2."""
    openat2, enosys = 437, 38
    load, jump_equal, answer = 0x20, 0x15, 0x06
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in [(load, 0, 0, 0), (jump_equal, 0, 1, openat2), (answer, 0, 0, 0x00050000 | enosys),
                            (answer, 0, 0, 0x7FFF0000)])
    text = ctypes.create_string_buffer(program, len(program))
    filter_of = struct.pack("HxxxxxxP", 4, ctypes.addressof(text))
    set_seccomp, filter_mode, set_no_new_privs = 22, 2, 38
    if os.geteuid() != 0:
        libc.prctl(set_no_new_privs, 1, 0, 0, 0)
    if libc.prctl(set_seccomp, filter_mode, filter_of, 0, 0) != 0:
        sys.exit("cannot install the filter")


main()
