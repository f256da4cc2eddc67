/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Stands in for the driver of Cisco usNIC where there is no Cisco VIC: what the RDMA core, sysfs, char devices and
 * network namespaces show of its devices, on the network interfaces that the parameter `netdevs` names. Like the real
 * one it has no way to cut users off, so that its devices cannot change their network namespace; it follows the IPv4
 * address of its interface into any. Nothing can be sent by it: it makes no QPs. */
#include <linux/etherdevice.h>
#include <linux/inetdevice.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <net/addrconf.h>
#include <rdma/ib_addr.h>
#include <rdma/ib_verbs.h>

enum { MAX_VNICS = 8, QUEUES_PER_VF = 6, ABI_VERSION = 4 };

static char* netdevs[MAX_VNICS];
static unsigned int netdev_count;
module_param_array(netdevs, charp, &netdev_count, 0444);
static unsigned int usnic_ib_share_vf = 1;
module_param(usnic_ib_share_vf, uint, 0444);

struct vnic {
  struct ib_device ib;
  struct net_device* netdev;
  struct kobject* qpn;
  __be32 address; /* 0: the interface has none */
};
static struct vnic* vnics[MAX_VNICS];

struct vnic_context {
  struct ib_ucontext ib;
};

static struct vnic* to_vnic(struct ib_device* device) { return container_of(device, struct vnic, ib); }

static int query_device(struct ib_device* device, struct ib_device_attr* attributes, struct ib_udata* data) {
  attributes->max_qp = QUEUES_PER_VF * pci_num_vf(to_pci_dev(device->dev.parent));
  attributes->max_cq = attributes->max_qp;
  return 0;
}

static int query_port(struct ib_device* device, u32 port, struct ib_port_attr* attributes) {
  const struct vnic* vnic = to_vnic(device);
  const bool link = netif_running(vnic->netdev) && netif_carrier_ok(vnic->netdev);
  attributes->state = !link ? IB_PORT_DOWN : vnic->address ? IB_PORT_ACTIVE : IB_PORT_INIT;
  attributes->phys_state = link ? IB_PORT_PHYS_STATE_LINK_UP : IB_PORT_PHYS_STATE_DISABLED;
  attributes->max_mtu = IB_MTU_4096;
  attributes->active_mtu = iboe_get_mtu(vnic->netdev->mtu);
  attributes->active_width = IB_WIDTH_1X;
  attributes->active_speed = IB_SPEED_QDR;
  attributes->gid_tbl_len = 1;
  attributes->pkey_tbl_len = 1;
  return 0;
}

static int query_gid(struct ib_device* device, u32 port, int index, union ib_gid* gid) {
  const struct vnic* vnic = to_vnic(device);
  memset(gid, 0, sizeof *gid);
  gid->raw[0] = 0xfe;
  gid->raw[1] = 0x80;
  memcpy(&gid->raw[4], &vnic->address, sizeof vnic->address);
  addrconf_addr_eui48(&gid->raw[8], (const char*)vnic->netdev->dev_addr);
  return 0;
}

static int query_pkey(struct ib_device* device, u32 port, u16 index, u16* pkey) {
  *pkey = 0xffff;
  return 0;
}

static int get_port_immutable(struct ib_device* device, u32 port, struct ib_port_immutable* immutable) {
  immutable->core_cap_flags = RDMA_CORE_PORT_USNIC;
  immutable->gid_tbl_len = 1;
  immutable->pkey_tbl_len = 1;
  return 0;
}

static enum rdma_link_layer get_link_layer(struct ib_device* device, u32 port) { return IB_LINK_LAYER_ETHERNET; }

static void get_firmware(struct ib_device* device, char* text) { strscpy(text, "4.2(3a)", IB_FW_VERSION_NAME_MAX); }

static int alloc_ucontext(struct ib_ucontext* context, struct ib_udata* data) { return 0; }
static void dealloc_ucontext(struct ib_ucontext* context) {}

static ssize_t iface_show(struct device* device, struct device_attribute* attribute, char* text) {
  return sysfs_emit(text, "%s\n", netdev_name(rdma_device_to_drv_device(device, struct vnic, ib)->netdev));
}
static DEVICE_ATTR_RO(iface);

static ssize_t max_vf_show(struct device* device, struct device_attribute* attribute, char* text) {
  const struct vnic* vnic = rdma_device_to_drv_device(device, struct vnic, ib);
  return sysfs_emit(text, "%d\n", pci_num_vf(to_pci_dev(vnic->ib.dev.parent)));
}
static DEVICE_ATTR_RO(max_vf);

static ssize_t qp_per_vf_show(struct device* device, struct device_attribute* attribute, char* text) {
  return sysfs_emit(text, "%d\n", QUEUES_PER_VF);
}
static DEVICE_ATTR_RO(qp_per_vf);

static ssize_t cq_per_vf_show(struct device* device, struct device_attribute* attribute, char* text) {
  return sysfs_emit(text, "%d\n", QUEUES_PER_VF);
}
static DEVICE_ATTR_RO(cq_per_vf);

static ssize_t board_id_show(struct device* device, struct device_attribute* attribute, char* text) {
  return sysfs_emit(text, "207\n");
}
static DEVICE_ATTR_RO(board_id);

static struct attribute* attributes[] = {&dev_attr_iface.attr,     &dev_attr_max_vf.attr,   &dev_attr_qp_per_vf.attr,
                                         &dev_attr_cq_per_vf.attr, &dev_attr_board_id.attr, NULL};
static const struct attribute_group attribute_group = {.attrs = attributes};

static const struct ib_device_ops vnic_ops = {
    .owner = THIS_MODULE,
    .driver_id = RDMA_DRIVER_USNIC,
    .uverbs_abi_ver = ABI_VERSION,
    .device_group = &attribute_group,
    .query_device = query_device,
    .query_port = query_port,
    .query_gid = query_gid,
    .query_pkey = query_pkey,
    .get_port_immutable = get_port_immutable,
    .get_link_layer = get_link_layer,
    .get_dev_fw_str = get_firmware,
    .alloc_ucontext = alloc_ucontext,
    .dealloc_ucontext = dealloc_ucontext,
    INIT_RDMA_OBJ_SIZE(ib_ucontext, vnic_context, ib),
};

/* With several addresses the last one counts, and whichever goes takes it away: as with the real driver. */
static int on_address(struct notifier_block* block, unsigned long event, void* data) {
  const struct in_ifaddr* address = data;
  for (unsigned int i = 0; i < netdev_count; ++i) {
    struct ib_event change = {.event = IB_EVENT_GID_CHANGE, .element.port_num = 1};
    if (!vnics[i] || vnics[i]->netdev != address->ifa_dev->dev) continue;
    vnics[i]->address = event == NETDEV_UP ? address->ifa_address : 0;
    change.device = &vnics[i]->ib;
    ib_dispatch_event(&change);
  }
  return NOTIFY_DONE;
}
static struct notifier_block address_notifier = {.notifier_call = on_address};

static __be32 first_address(struct net_device* netdev) {
  const struct in_device* configuration;
  const struct in_ifaddr* first;
  __be32 address = 0;
  rcu_read_lock();
  configuration = __in_dev_get_rcu(netdev);
  first = configuration ? rcu_dereference(configuration->ifa_list) : NULL;
  if (first) address = first->ifa_address;
  rcu_read_unlock();
  return address;
}

static void remove_vnic(struct vnic* vnic) {
  kobject_put(vnic->qpn);
  ib_unregister_device(&vnic->ib);
  dev_put(vnic->netdev);
  ib_dealloc_device(&vnic->ib);
}

static struct vnic* make_vnic(struct net_device* netdev) {
  struct vnic* vnic = ib_alloc_device(vnic, ib);
  int error;
  if (!vnic) return ERR_PTR(-ENOMEM);
  vnic->netdev = netdev;
  vnic->address = first_address(netdev);
  vnic->ib.phys_port_cnt = 1;
  vnic->ib.num_comp_vectors = 1;
  vnic->ib.node_type = RDMA_NODE_USNIC_UDP;
  vnic->ib.dev.parent = netdev->dev.parent;
  addrconf_addr_eui48((u8*)&vnic->ib.node_guid, (const char*)netdev->dev_addr);
  ib_set_device_ops(&vnic->ib, &vnic_ops);
  error = ib_device_set_netdev(&vnic->ib, netdev, 1);
  if (!error) error = ib_register_device(&vnic->ib, "usnic_%d", NULL);
  if (error) {
    ib_dealloc_device(&vnic->ib);
    return ERR_PTR(error);
  }
  vnic->qpn = kobject_create_and_add("qpn", &vnic->ib.dev.kobj);
  return vnic;
}

static void remove_all(void) {
  unregister_inetaddr_notifier(&address_notifier);
  for (unsigned int i = 0; i < netdev_count; ++i)
    if (vnics[i]) remove_vnic(vnics[i]);
}

static int __init load(void) {
  register_inetaddr_notifier(&address_notifier);
  for (unsigned int i = 0; i < netdev_count; ++i) {
    struct net_device* netdev = dev_get_by_name(&init_net, netdevs[i]);
    struct vnic* vnic =
        netdev && netdev->dev.parent && dev_is_pci(netdev->dev.parent) ? make_vnic(netdev) : ERR_PTR(-ENODEV);
    if (IS_ERR(vnic)) {
      dev_put(netdev);
      remove_all();
      return PTR_ERR(vnic);
    }
    vnics[i] = vnic;
  }
  return 0;
}
module_init(load);
module_exit(remove_all);

MODULE_DESCRIPTION("Stand-in for the driver of Cisco usNIC");
MODULE_LICENSE("GPL");
