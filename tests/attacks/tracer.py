"""tracer.py PID: tries everything that would give control over a process, and says "refused" or what worked."""
import ctypes
import os
import sys

pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206


def attempt(name, action):
    try:
        action()
        print("worked:", name)
    except OSError:
        print("refused")


def trace(request):
    if libc.ptrace(request, pid, None, None) != 0:
        raise OSError(ctypes.get_errno())


class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def write_memory():
    text = ctypes.create_string_buffer(8)
    local = Part(ctypes.cast(text, ctypes.c_void_p), 8)
    remote = Part(0x1000, 8)
    if libc.process_vm_writev(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) < 0:
        raise OSError(ctypes.get_errno())


attempt("PTRACE_SEIZE", lambda: trace(PTRACE_SEIZE))
attempt("PTRACE_ATTACH", lambda: trace(PTRACE_ATTACH))
attempt("mem", lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR))
attempt("environ", lambda: os.open(f"/proc/{pid}/environ", os.O_RDONLY))
attempt("fd", lambda: os.listdir(f"/proc/{pid}/fd"))
attempt("root", lambda: os.listdir(f"/proc/{pid}/root/"))
attempt("cwd", lambda: os.listdir(f"/proc/{pid}/cwd/"))
attempt("netns", lambda: os.open(f"/proc/{pid}/ns/net", os.O_RDONLY))
attempt("process_vm_writev", write_memory)
