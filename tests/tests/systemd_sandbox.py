"""Runs a program under the seccomp filter of a systemd unit: sandbox.py UNIT PROGRAM ARGUMENT...

Enters: a unit file; its SystemCallFilter=, SystemCallErrorNumber=EPERM, MemoryDenyWriteExecute=,
RestrictAddressFamilies= and RestrictNamespaces= are taken as systemd takes them, sets of system
calls by `systemd-analyze syscall-filter`, and loaded by libseccomp, which systemd itself uses.
It must hold that an unknown line of these kinds is an error. User and capabilities come from
outside (setpriv).
"""
import ctypes
import errno
import os
import socket
import subprocess
import sys

ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
NOT_EQUAL, MASKED_EQUAL = 1, 7
PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
NAMESPACES = 0x7E020080  # CLONE_NEW*: cgroup, uts, ipc, user, pid, net, time, mount


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int),
                ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def settings(path):
    found = {}
    with open(path) as unit:
        for line in unit:
            key, equals, value = line.strip().partition("=")
            if equals and not key.startswith("#"):
                found.setdefault(key, []).append(value)
    return found


def sets():
    command = ["systemd-analyze", "--no-pager", "syscall-filter"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found, name = {}, None
    for line in text.splitlines():
        word = line.strip()
        if line.startswith("@"):
            name = found.setdefault(word, [])
        elif word and not word.startswith("#") and name is not None:
            name.append(word)
    return found


def members(word, known):
    if not word.startswith("@"):
        return {word}
    return set().union(*(members(each, known) for each in known[word]))


def main():
    unit, program = settings(sys.argv[1]), sys.argv[2:]
    known, allowed = sets(), set()
    for value in unit["SystemCallFilter"]:
        names = set().union(*(members(word, known) for word in value.lstrip("~").split()))
        allowed = allowed - names if value.startswith("~") else allowed | names
    # What systemd always allows: starting the program, and what any program needs.
    allowed |= members("@default", known) | {"execve"}
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(REFUSE)))

    def rule(action, name, *compares):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others are not of this architecture
            array = (Compare * len(compares))(*compares)
            result = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action), number, len(compares), array)
            if result != 0:
                sys.exit(f"the rule for {name} is refused: {result}")

    conditional = {"socket", "mmap", "mprotect", "pkey_mprotect", "shmat", "unshare", "clone",
                   "clone3", "setns"}
    for name in allowed - conditional:
        rule(ALLOW, name)
    for family in unit["RestrictAddressFamilies"][0].split():
        rule(ALLOW, "socket", Compare(0, MASKED_EQUAL, 0xFFFFFFFF, getattr(socket, family)))
    if unit["MemoryDenyWriteExecute"] != ["yes"] or unit["RestrictNamespaces"] != ["yes"]:
        sys.exit("the sandbox knows these only as yes")
    rule(ALLOW, "mmap", Compare(2, MASKED_EQUAL, PROT_EXEC, 0))
    rule(ALLOW, "mmap", Compare(2, MASKED_EQUAL, PROT_EXEC | PROT_WRITE, PROT_EXEC))
    rule(ALLOW, "mprotect", Compare(2, MASKED_EQUAL, PROT_EXEC, 0))
    rule(ALLOW, "pkey_mprotect", Compare(2, MASKED_EQUAL, PROT_EXEC, 0))
    rule(ALLOW, "shmat", Compare(2, MASKED_EQUAL, SHM_EXEC, 0))
    rule(ALLOW, "clone", Compare(0, MASKED_EQUAL, NAMESPACES, 0))
    # Its flags lie in memory: glibc falls back to clone where it is said not to exist.
    rule(0x00050000 | errno.ENOSYS, "clone3")
    if library.seccomp_load(context) != 0:
        sys.exit("the filter cannot be loaded")
    os.execv(program[0], program)


main()
