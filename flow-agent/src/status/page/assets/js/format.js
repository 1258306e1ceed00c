// Numbers and times for people.

const SI = ["", "k", "M", "G", "T", "P", "E"];
const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function scaled(value, base, units) {
  let step = 0;
  while (value >= base * 0.9995 && step < units.length - 1) {
    value /= base;
    step += 1;
  }
  const digits = step === 0 && Number.isInteger(value) ? 0 : value < 10 ? 2 : value < 100 ? 1 : 0;
  return [value.toFixed(digits), units[step]];
}

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** A count, in thousands: 1.23 M. */
export function count(value) {
  if (!known(value)) return "–";
  if (Math.abs(value) < 10000) return String(Math.abs(value) < 100 ? Math.round(value * 10) / 10 : Math.round(value));
  const [number, unit] = scaled(Math.abs(value), 1000, SI);
  return `${value < 0 ? "-" : ""}${number} ${unit}`;
}

/** A whole number, with all its digits. */
export function whole(value) {
  return known(value) ? value.toLocaleString("en-US") : "–";
}

/** Octets: 12.3 MiB. */
export function octets(value) {
  if (!known(value)) return "–";
  return scaled(value, 1024, BINARY).join(" ");
}

/** Bits a second of octets a second: 1.20 Gbit/s. */
export function bits(octetsPerSecond) {
  if (!known(octetsPerSecond)) return "–";
  const [number, unit] = scaled(octetsPerSecond * 8, 1000, SI);
  return `${number} ${unit}bit/s`;
}

/** Packets a second. */
export function packets(perSecond) {
  return known(perSecond) ? `${count(perSecond)} packets/s` : "–";
}

/** Nanoseconds: 12.3 ms. */
export function duration(ns) {
  if (!known(ns)) return "–";
  if (ns >= 60e9) return seconds(ns / 1e9);
  const [number, unit] = scaled(ns, 1000, ["ns", "µs", "ms", "s"]);
  return `${number} ${unit}`;
}

/** Seconds: 3 d 4 h. */
export function seconds(value) {
  if (!known(value)) return "–";
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [at, [size, unit]] of units.entries()) {
    if (value < size) continue;
    const rest = Math.floor((value % size) / (units[at + 1]?.[0] ?? 1));
    const next = units[at + 1]?.[1] ?? "s";
    return `${Math.floor(value / size)} ${unit}${rest ? ` ${rest} ${next}` : ""}`;
  }
  return `${Math.floor(value)} s`;
}

/** A share of one, in percent. */
export function percent(share) {
  if (!known(share)) return "–";
  const value = share * 100;
  return `${value > 99.9 && value < 100 ? value.toFixed(3) : value.toFixed(value < 10 ? 2 : 1)} %`;
}

/** The time of day of an RFC 3339 text. */
export function clock(text) {
  if (!text) return "–";
  const time = new Date(text);
  const day = time.toDateString() === new Date().toDateString();
  return day ? time.toLocaleTimeString("en-GB") : time.toLocaleString("en-GB");
}

const PROTOCOLS = { 1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp" };

/** A protocol's name. */
export function protocol(number) {
  return PROTOCOLS[number] ?? `ip/${number}`;
}
