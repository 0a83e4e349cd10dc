/**
 * File systems whose files are views of the kernel: reading them backs up no data, never ends, or has effects. Magic
 * numbers as in linux/magic.h.
 */
const KERNEL_FILE_SYSTEMS = new Set([
  0x9fa0, // proc
  0x62656572, // sysfs
  0x27e0eb, // cgroup
  0x63677270, // cgroup2
  0x64626720, // debugfs
  0x74726163, // tracefs
  0x73636673, // securityfs
  0xf97cff8c, // selinuxfs
  0x1cd1, // devpts
  0xcafe4a11, // bpf
  0x6165676c, // pstore
  0xde5e81e4, // efivarfs
  0x62656570, // configfs
  0x65735543, // fusectl
  0x19800202, // mqueue
  0x958458f6, // hugetlbfs
  0x42494e4d, // binfmt_misc
  0x6e736673, // nsfs
  0x67596969, // rpc_pipefs
])

export function isKernelFileSystem(type: number): boolean {
  // statfs gives a signed word on some architectures.
  return KERNEL_FILE_SYSTEMS.has(type >>> 0)
}
