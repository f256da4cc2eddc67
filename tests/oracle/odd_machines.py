"""Machines that nobody has, as hwloc XML: what planners trip over, each in one machine and then together."""


class Machine:
    """Packages of NUMA nodes of cores; devices on host bridges, which hang on a package, a NUMA node or the machine."""

    def __init__(self):
        self.cpus, self.numa, self.body = set(), [], []
        self.bus = 0

    @staticmethod
    def mask(cpus):
        words, value = [], sum(1 << cpu for cpu in cpus)
        while value or not words:
            words.append(f"0x{value & 0xffffffff:08x}")
            value >>= 32
        return ",".join(reversed(words))

    def node(self, number, cpus):
        self.numa.append(number)
        return f'<object type="NUMANode" os_index="{number}" cpuset="{self.mask(cpus)}" gp_index="{1000 + number}"/>'

    def core(self, threads):
        self.cpus |= set(threads)
        units = "".join(f'<object type="PU" os_index="{cpu}" cpuset="{self.mask([cpu])}"/>' for cpu in threads)
        return f'<object type="Core" cpuset="{self.mask(threads)}">{units}</object>'

    def nic(self, name, *, fabric=True, vendor="8086", kind="0200", guid=None, up=None, gpu=False, function=0):
        if function == 0:
            self.bus += 1
        info = f'<info name="SysImageGUID" value="{guid}"/>' if guid else ""
        if up is not None:
            info += f'<info name="Port1State" value="{4 if up else 1}"/>'
        devices = f'<object type="OSDev" name="{name}" osdev_type="2"/>'
        if fabric:
            devices += f'<object type="OSDev" name="mlx_{name}" osdev_type="3">{info}</object>'
        if gpu:
            kind, devices = "0302", ""
        return (f'<object type="PCIDev" pci_busid="0000:{self.bus:02x}:00.{function}" '
                f'pci_type="{kind} [{vendor}:1017] [0000:0000] 00">{devices}</object>')

    @staticmethod
    def bridge(*devices, switch=False):
        inner = "".join(devices)
        if switch:
            ports = "".join(f'<object type="Bridge" bridge_type="1-1">{device}</object>' for device in devices)
            inner = f'<object type="Bridge" bridge_type="1-1">{ports}</object>'
        return f'<object type="Bridge" bridge_type="0-1">{inner}</object>'

    def package(self, *parts, cpus):
        return f'<object type="Package" cpuset="{self.mask(cpus)}">{"".join(parts)}</object>'

    def xml(self, *parts, distances=None):
        text = (f'<topology version="2.0">\n<object type="Machine" cpuset="{self.mask(self.cpus)}" '
                f'complete_cpuset="{self.mask(self.cpus)}" allowed_cpuset="{self.mask(self.cpus)}">\n' +
                "\n".join(parts) + "\n</object>\n")
        if distances:
            numa = sorted(self.numa)
            values = " ".join(str(distances(a, b)) for a in numa for b in numa)
            indexes = " ".join(map(str, numa))
            text += (f'<distances2 type="NUMANode" nbobjs="{len(numa)}" kind="5" indexing="os">'
                     f'<indexes length="0">{indexes} </indexes><u64values length="0">{values} </u64values></distances2>\n')
        return text + "</topology>\n"


def cores(machine, first, count, threads=1, stride=None):
    """`count` cores from CPU `first` on, their threads `stride` apart: the text, and all their CPUs."""
    groups = [[first + core + thread * (stride or count) for thread in range(threads)] for core in range(count)]
    return "".join(machine.core(group) for group in groups), sorted(cpu for group in groups for cpu in group)


def memory_without_cpus():
    """NICs that hang on NUMA nodes without CPUs, of which there are more than of the others."""
    m = Machine()
    text, cpus = cores(m, 0, 4, threads=2, stride=8)
    other_text, other = cores(m, 4, 4, threads=2, stride=8)
    far = '<object type="NUMANode" os_index="4" cpuset="0x0" gp_index="1004"/>'
    m.numa.append(4)
    return m.xml(m.package(m.node(0, cpus), text, m.bridge(m.nic("a")), cpus=cpus),
                 m.package(m.node(1, other), other_text, m.bridge(m.nic("b"), m.nic("c")), cpus=other), far,
                 distances=lambda a, b: 10 if a == b else 17 if 4 in (a, b) else 32)


def cpus_without_memory():
    """Two of four packages have no NUMA node, one of them has a NIC."""
    m = Machine()
    parts = []
    for package in range(4):
        text, cpus = cores(m, package * 3, 3)
        numa = m.node(package, cpus) if package % 2 == 0 else ""
        nic = m.bridge(m.nic(f"n{package}")) if package in (0, 1) else ""
        parts.append(m.package(numa, text, nic, cpus=cpus))
    return m.xml(*parts)


def sparse_numbers():
    """CPU and node numbers with holes, in another order than the packages."""
    m = Machine()
    parts = []
    for node, first in ((252, 64), (8, 3), (0, 40)):
        text, cpus = cores(m, first, 4, threads=2, stride=100)
        parts.append(m.package(m.node(node, cpus), text, m.bridge(m.nic(f"n{node}")), cpus=cpus))
    return m.xml(*parts, distances=lambda a, b: 10 if a == b else 11 + abs(a - b) % 7)


def asymmetric():
    """A big package with two small NUMA nodes, a small package with a big one; cores with one and two threads."""
    m = Machine()
    text, cpus = cores(m, 0, 6, threads=2, stride=12)
    more_text, more = cores(m, 6, 1)
    other_text, other = cores(m, 7, 2, threads=2, stride=12)
    return m.xml(m.package(m.node(0, cpus), text, m.node(1, more), more_text, m.bridge(m.nic("a"), switch=True), cpus=cpus + more),
                 m.package(m.node(2, other), other_text, m.bridge(m.nic("b"), m.nic("c"), switch=True), cpus=other))


def socket_direct():
    """One port that both packages reach by a function of their own, beside a card of two ports, one of them down."""
    m = Machine()
    guid = "506b:4b03:00aa:bbcc"
    text, cpus = cores(m, 0, 8)
    other_text, other = cores(m, 8, 8)
    return m.xml(m.package(m.node(0, cpus), text, m.bridge(m.nic("a", vendor="15b3", kind="0207", guid=guid, up=True)), cpus=cpus),
                 m.package(m.node(1, other), other_text,
                           m.bridge(m.nic("b", vendor="15b3", kind="0207", guid=guid, up=True),
                                    m.nic("c", vendor="15b3", kind="0207", guid="506b:4b03:00dd:0000", up=True),
                                    m.nic("d", vendor="15b3", kind="0207", guid="506b:4b03:00dd:0000", up=False, function=1)),
                           cpus=other))


def mixed_fabrics():
    """Fabric devices, plain networks and GPUs on shared switches; one NIC hangs on the machine itself."""
    m = Machine()
    parts = []
    for package in range(2):
        text, cpus = cores(m, package * 4, 4, threads=2, stride=8)
        parts.append(m.package(m.node(package, cpus), text,
                               m.bridge(m.nic("g", gpu=True), m.nic(f"ib{package}"), switch=True),
                               m.bridge(m.nic(f"eth{package}", fabric=False), m.nic("g", gpu=True)), cpus=cpus))
    return m.xml(*parts, m.bridge(m.nic("far")), distances=lambda a, b: 10 if a == b else 21)


def one_domain_many_packages():
    """All memory is interleaved into one NUMA node over four packages."""
    m = Machine()
    parts, every = [], []
    for package in range(4):
        text, cpus = cores(m, package * 2, 2)
        every += cpus
        parts.append(m.package(text, m.bridge(m.nic(f"n{package}")) if package % 3 == 0 else "", cpus=cpus))
    return m.xml(m.node(0, every), *parts)


def twin_memories():
    """Each quadrant has a node of DDR and one of HBM with the same CPUs, and a node over all of them has none."""
    m = Machine()
    parts = []
    for quadrant in range(4):
        text, cpus = cores(m, quadrant * 4, 4, threads=4, stride=16)
        parts.append(m.package(m.node(quadrant, cpus), m.node(quadrant + 4, cpus), text,
                               m.bridge(m.nic(f"n{quadrant}"), m.nic("g", gpu=True)) if quadrant in (1, 2) else "", cpus=cpus))
    return m.xml(*parts, distances=lambda a, b: 10 if a == b else 21 if a % 4 != b % 4 else 31)


MACHINES = (memory_without_cpus, cpus_without_memory, sparse_numbers, asymmetric, socket_direct, mixed_fabrics,
            one_domain_many_packages, twin_memories)


def write_all(directory):
    """Writes one file for each machine."""
    for make in MACHINES:
        (directory / f"odd-{make.__name__}.xml").write_text(make())
