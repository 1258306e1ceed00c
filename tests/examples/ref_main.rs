use flow_tests::reference::*;
fn main() {
    for f in std::env::args().skip(1) {
        match totals(std::path::Path::new(&f)) {
            Err(e) => println!("F\t{f}\tERR\t{e:?}"),
            Ok(t) => {
                println!(
                    "F\t{f}\tOK\t{}\t{:?}\tlater={} unmatched={}",
                    t.seen, t.not_metered, t.fragments_later, t.fragments_unmatched
                );
                for (d, s) in &t.directions {
                    println!(
                        "D\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                        d.src, d.dst, d.protocol, d.src_port, d.dst_port, s.packets, s.octets
                    );
                }
            }
        }
    }
}
