//! The rule tables: brings the rules of an idle generation up to date.

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData, MapError};
use flow_common::filter::{PORT_WORDS, PortWord};

use super::Rules;

/// The kernel side's rules and what is written in them.
pub struct RuleTables {
    filters: Array<MapData, [u64; 8]>,
    prefixes: LpmTrie<MapData, [u32; 5], u32>,
    ports: Array<MapData, [u64; 2]>,
    wanted: Rules,
    /// What each generation has.
    parts: [Part; 2],
    /// The rules that packets meet now are the wanted ones.
    in_force: bool,
}

/// The rules of one generation.
struct Part {
    rules: Rules,
    /// As in the kernel.
    port_words: Vec<PortWord>,
    /// Everything that met these rules has been drained.
    drained: bool,
}

impl RuleTables {
    /// Over the kernel side's tables, which are empty: everything is metered.
    pub fn new(
        filters: Array<MapData, [u64; 8]>,
        prefixes: LpmTrie<MapData, [u32; 5], u32>,
        ports: Array<MapData, [u64; 2]>,
    ) -> Self {
        let part = || Part {
            rules: Rules::default(),
            port_words: Rules::default().port_words(),
            drained: true,
        };
        let (wanted, parts) = (Rules::default(), [part(), part()]);
        Self { filters, prefixes, ports, wanted, parts, in_force: true }
    }

    /// From the next flip on these count.
    pub fn set(&mut self, rules: Rules) {
        if rules != self.wanted {
            self.in_force = false;
            self.wanted = rules;
        }
    }

    /// Both generations have them, and nothing was filled with others: no news.
    pub fn installed(&mut self) {
        self.in_force = true;
    }

    /// Before a flip: gives the generation that will be filled the wanted rules,
    /// unless it still holds counts that met others. Returns the flags of rules that
    /// are new in it.
    ///
    /// # Errors
    /// The kernel refuses an entry; the generation must not be filled. A later
    /// call goes on where this one ended.
    pub fn prepare(&mut self, generation: u32) -> Result<Option<u32>, MapError> {
        let part = &mut self.parts[generation as usize & 1];
        if !part.drained || part.rules == self.wanted {
            return Ok(None);
        }
        // The trie has room for the most prefixes of two generations, and no more: those that
        // are gone make room first. No packet meets an idle generation meanwhile.
        let wanted = &self.wanted.prefixes;
        let gone: Vec<_> = part
            .rules
            .prefixes
            .keys()
            .filter(|prefix| !wanted.contains_key(prefix))
            .copied()
            .collect();
        for prefix in gone {
            let (bits, data) = prefix.key(generation);
            self.prefixes.remove(&Key::new(bits, data))?;
            part.rules.prefixes.remove(&prefix);
        }
        for (prefix, verdict) in &self.wanted.prefixes {
            if part.rules.prefixes.get(prefix) != Some(verdict) {
                let (bits, data) = prefix.key(generation);
                self.prefixes.insert(&Key::new(bits, data), *verdict as u32, 0)?;
                part.rules.prefixes.insert(*prefix, *verdict);
            }
        }
        let words = self.wanted.port_words();
        for (index, (word, old)) in words.iter().zip(&mut part.port_words).enumerate() {
            if word != old {
                let index = generation * PORT_WORDS + index as u32;
                self.ports.set(index, [word.include, word.exclude], 0)?;
                *old = *word;
            }
        }
        let filter = self.wanted.filter();
        self.filters.set(generation, filter.words(), 0)?;
        part.rules = self.wanted.clone();
        Ok(Some(filter.flags))
    }

    /// After a flip: this generation is being filled. True when rules that were
    /// set have come into force with it.
    pub fn flipped(&mut self, generation: u32) -> bool {
        // The other one was filled until now.
        self.parts.iter_mut().for_each(|part| part.drained = false);
        let before = self.in_force;
        self.in_force = self.parts[generation as usize & 1].rules == self.wanted;
        self.in_force && !before
    }

    /// This generation is empty.
    pub fn drained(&mut self, generation: u32) {
        self.parts[generation as usize & 1].drained = true;
    }

    /// How many packets each metered one of this generation stands for.
    pub fn weight(&self, generation: u32) -> u32 {
        self.parts[generation as usize & 1].rules.sampling.weight()
    }
}
