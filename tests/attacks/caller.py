"""Starts programs in ways that no shell can.

    caller.py no-arguments PROGRAM       with an empty argument vector
    caller.py arguments PROGRAM ARGV…    with this argument vector, the name included
    caller.py environment COMMAND…       with variables of odd forms
    caller.py blocked-signals COMMAND…   with all signals blocked
    caller.py without-openat2 COMMAND…   where the system call openat2 does not exist (and, but for root, with
                                         no_new_privs, which users must set to filter system calls)
"""
import ctypes
import os
import shutil
import signal
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)


def main():
    kind, arguments = sys.argv[1], sys.argv[2:]
    if kind == "no-arguments":
        path = arguments[0].encode()
        vector = (ctypes.c_char_p * 1)(None)
        libc.execve(path, vector, vector)
    elif kind == "arguments":
        os.execve(arguments[0], arguments[1:], {})
    elif kind == "environment":
        path = shutil.which(arguments[0]).encode()
        odd = [b"A=1", b"A=2", b"", b"=x", b"no-value", b"b.c=2", b"B" * 100000, b"PATH=/usr/bin", b"\xff=\xff"]
        libc.execve(path, vector_of(map(str.encode, arguments)), vector_of(odd))
    elif kind == "blocked-signals":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.execvp(arguments[0], arguments)
    elif kind == "without-openat2":
        forbid_openat2()
        os.execvp(arguments[0], arguments)
    sys.exit("nothing was started")


def vector_of(texts):
    texts = list(texts)
    return (ctypes.c_char_p * (len(texts) + 1))(*texts, None)


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
