// Where the chunks of blocks of 32 stand: one after another.

const HI: u32 = 4u;
const HEAD: u32 = 1u;

fn chunk_lo(c: u32) -> u32 {
    return c * 8u;
}
