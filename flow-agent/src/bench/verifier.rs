//! What the eBPF programs are to the kernel's verifier: how many instructions it walks, how many
//! are left, and how much stack they use. Loaded as an agent loads them, for a host of fixed
//! size, attached nowhere.

use aya::programs::Program;
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use serde::Serialize;

use super::failed;
use super::rig::{SEED, default_config};
use crate::Error;
use crate::attach::{Kernel, OBJECT, TableSize};

/// CPUs of the host that the tables are made for: the programs differ in constants only.
const CPUS: u32 = 2;

/// One program.
#[derive(Debug, Serialize)]
pub struct VerifierResult {
    bench: &'static str,
    program: String,
    /// Packets in tunnels are metered as what the tunnels carry.
    decapsulate: bool,
    /// Instructions that the verifier walked, all paths together; its limit is a million.
    verified: u32,
    /// Instructions that are left after it.
    instructions: u32,
    /// The deepest octet of the stack that the program addresses; the limit is 512.
    stack_bytes: u32,
}

impl VerifierResult {
    /// For people.
    pub fn line(&self) -> String {
        format!(
            "verifier {:<12} {:<12} {:>7} instructions walked of 1,000,000, {:>5} left, {:>3} \
             octets of stack of 512",
            self.program,
            if self.decapsulate { "decapsulate" } else { "" },
            self.verified,
            self.instructions,
            self.stack_bytes
        )
    }
}

/// Measures each program, with and without looking into tunnels.
///
/// # Errors
/// Programs cannot be loaded, or the kernel does not say.
pub fn measure(mut report: impl FnMut(VerifierResult)) -> Result<(), Error> {
    let object = Object::parse(OBJECT).map_err(failed)?;
    let memory = default_config()?.table_memory_bytes;
    for decapsulate in [false, true] {
        let kernel = Kernel::load(TableSize::of_host(CPUS, 1, decapsulate, memory)?, SEED)?;
        let mut programs: Vec<_> = kernel.ebpf.programs().collect();
        programs.sort_by_key(|(name, _)| *name);
        for (name, program) in programs {
            // Only the loaded ones are attached.
            let Ok(info) = Program::info(program) else { continue };
            let of = |what: Option<u32>| what.ok_or_else(|| failed("the kernel is too old"));
            report(VerifierResult {
                bench: "verifier",
                program: name.to_owned(),
                decapsulate,
                verified: of(info.verified_instruction_count())?,
                instructions: of(info.size_translated())? / size_of::<bpf_insn>() as u32,
                stack_bytes: stack(&object, name)?,
            });
        }
    }
    Ok(())
}

/// The deepest octet that a program's function addresses, and the deepest that any function it
/// may call does: such calls are rare, and never go deeper than one.
fn stack(object: &Object, name: &str) -> Result<u32, Error> {
    let program = object.programs.get(name).ok_or_else(|| failed(format!("no {name}")))?;
    let entry = object.functions.get(&program.function_key());
    let entry = entry.ok_or_else(|| failed(format!("{name} has no function")))?;
    let deepest = depth(&entry.instructions);
    let calls = entry
        .instructions
        .iter()
        .any(|instruction| instruction.code == CALL && instruction.src_reg() == CALL_OF_FUNCTION);
    let entries: Vec<_> = object.programs.values().map(aya_obj::Program::function_key).collect();
    let called = object.functions.iter().filter(|(key, _)| calls && !entries.contains(key));
    let called = called.map(|(_, function)| depth(&function.instructions)).max();
    Ok(deepest + called.unwrap_or(0))
}

/// The frame pointer.
const FRAME: u8 = 10;
/// `mov64 dst, src`; `add64 dst, imm`.
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const CALL: u8 = 0x85;
const CALL_OF_FUNCTION: u8 = 1;
/// Classes of instructions.
const CLASS: u8 = 0x07;
const LOAD: u8 = 0x01;
const STORES: [u8; 2] = [0x02, 0x03];
const ALU: [u8; 2] = [0x04, 0x07];

/// How far below the frame pointer instructions reach: by it, or by copies of it.
fn depth(instructions: &[bpf_insn]) -> u32 {
    // What each register is above the frame pointer, if that is known.
    let mut offsets = [None; 16];
    offsets[usize::from(FRAME)] = Some(0i32);
    let mut deepest = 0;
    for instruction in instructions {
        let (to, from) = (instruction.dst_reg(), instruction.src_reg());
        let (to, from) = (usize::from(to), usize::from(from));
        let mut reach = |base: Option<i32>, offset: i32| {
            let below = base.map_or(0, |base| -(base + offset));
            deepest = deepest.max(below.max(0) as u32);
        };
        let class = instruction.code & CLASS;
        match instruction.code {
            MOVE => offsets[to] = offsets[from],
            ADD => {
                offsets[to] = offsets[to].map(|base| base + instruction.imm);
                reach(offsets[to], 0);
            }
            _ if class == LOAD => {
                reach(offsets[from], i32::from(instruction.off));
                offsets[to] = None;
            }
            _ if STORES.contains(&class) => reach(offsets[to], i32::from(instruction.off)),
            _ if ALU.contains(&class) || class == 0 => offsets[to] = None,
            CALL => offsets[..6].fill(None),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, to: u8, from: u8, off: i16, imm: i32) -> bpf_insn {
        let registers = bpf_insn::new_bitfield_1(to, from);
        bpf_insn { code, _bitfield_align_1: [], _bitfield_1: registers, off, imm }
    }

    #[test]
    fn stack_is_found_by_the_frame_pointer_and_by_its_copies() {
        let direct = [instruction(0x7b, FRAME, 1, -24, 0)];
        assert_eq!(depth(&direct), 24);
        let copy = [
            instruction(MOVE, 2, FRAME, 0, 0),
            instruction(ADD, 2, 0, 0, -64),
            instruction(0x7b, 2, 1, -8, 0),
        ];
        assert_eq!(depth(&copy), 72);
        // Another register has nothing to do with the stack, nor has one that was overwritten.
        let other = [
            instruction(ADD, 3, 0, 0, -400),
            instruction(MOVE, 2, FRAME, 0, 0),
            instruction(0x79, 2, 1, 0, 0),
            instruction(ADD, 2, 0, 0, -300),
        ];
        assert_eq!(depth(&other), 0);
    }
}
