#include "launcher/core/rdma_grant.hpp"

#include <fmt/core.h>

namespace berth {

using nlohmann::json;

json to_json_value(const RdmaGrant& grant) {
  json nodes = json::array();
  for (const RdmaNode& node : grant.nodes)
    nodes.push_back({node.name, node.major, node.minor, node.mode, node.uid, node.gid});
  json addresses = json::array();
  for (const IpPrefix& address : grant.addresses) addresses.push_back(to_string(address));
  return {{"device", grant.device},
          {"port", grant.port},
          {"nodes", nodes},
          {"self_test", grant.self_test},
          {"interface", grant.interface},
          {"addresses", addresses},
          {"gid_index", grant.gid_index ? json(*grant.gid_index) : json()},
          {"selinux_label", grant.selinux_label}};
}

RdmaGrant parse_rdma_grant(const json& object) {
  RdmaGrant grant;
  object.at("device").get_to(grant.device);
  object.at("port").get_to(grant.port);
  for (const json& node : object.at("nodes"))
    grant.nodes.push_back({node.at(0).get<std::string>(), node.at(1).get<unsigned>(), node.at(2).get<unsigned>(),
                           node.at(3).get<unsigned>(), node.at(4).get<unsigned>(), node.at(5).get<unsigned>()});
  object.at("self_test").get_to(grant.self_test);
  object.at("interface").get_to(grant.interface);
  for (const json& text : object.at("addresses"))
    if (const auto address = parse_ip_prefix(text.get<std::string>())) grant.addresses.push_back(*address);
  if (const json& index = object.at("gid_index"); !index.is_null()) grant.gid_index = index.get<unsigned>();
  object.at("selinux_label").get_to(grant.selinux_label);
  return grant;
}

std::string port_name(const RdmaGrant& grant) { return fmt::format("{}:{}", grant.device, grant.port); }

}  // namespace berth
