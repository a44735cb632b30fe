package tier

import "hash/crc32"

// castagnoli is the polynomial of every checksum in an object; processors compute it in hardware.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)
