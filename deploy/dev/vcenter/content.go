package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// content is a disk's bytes at some time: the guest's own file, which nobody writes to, or a copy in the state
// directory.
type content struct {
	path string
	copy bool
}

// allocatedBytes is what the file occupies, holes left out.
func (c *content) allocatedBytes() (int64, error) {
	info, err := os.Stat(c.path)
	if err != nil {
		return 0, err
	}
	return min(info.Sys().(*syscall.Stat_t).Blocks*sectorBytes, info.Size()), nil
}

// write changes a running VM's disk, at its newest layer. The guest's file, and whatever a snapshot holds, is
// copied first; a copy is sparse where the disk is.
func (g *guest) write(directory string, index int, offset, length int64, seed string) (string, error) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	now := g.layers[len(g.layers)-1]
	current := now.contents[index]
	if !current.copy || g.uses(current) > 1 {
		g.copies++
		path := filepath.Join(directory, fmt.Sprintf("%s-disk%d-%d.raw", g.Name, index, g.copies))
		if err := copySparse(path, current.path); err != nil {
			return "", errors.Join(err, os.Remove(path))
		}
		current = &content{path: path, copy: true}
		now.contents[index] = current
	}
	file, err := os.OpenFile(current.path, os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	_, err = io.CopyN(io.MultiWriter(io.NewOffsetWriter(file, offset), digest), &noise{seed: seed}, length)
	if err = errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", digest.Sum(nil)), nil
}

// uses counts the layers that a content is part of. The caller holds the guest's mutex.
func (g *guest) uses(wanted *content) int {
	count := 0
	for _, layer := range g.layers {
		for _, each := range layer.contents {
			if each == wanted {
				count++
			}
		}
	}
	return count
}

// noise is the bytes that a seed stands for: SHA-256 of "SEED:0", of "SEED:1" and so on, one after the other.
type noise struct {
	seed string
	next int64
	rest []byte
}

func (n *noise) Read(buffer []byte) (int, error) {
	filled := 0
	for filled < len(buffer) {
		if len(n.rest) == 0 {
			block := sha256.Sum256(strconv.AppendInt([]byte(n.seed+":"), n.next, 10))
			n.next, n.rest = n.next+1, block[:]
		}
		copied := copy(buffer[filled:], n.rest)
		filled, n.rest = filled+copied, n.rest[copied:]
	}
	return filled, nil
}

// ficlone is the ioctl by which two files share their blocks (ioctl_ficlonerange(2)), where a file system can.
const ficlone = 0x40049409

// copySparse copies a file and keeps its holes.
func copySparse(target, source string) (err error) {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, _, failed := syscall.Syscall(syscall.SYS_IOCTL, to.Fd(), ficlone, from.Fd()); failed == 0 {
		return nil
	}
	size, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := to.Truncate(size); err != nil {
		return err
	}
	for start := int64(0); start < size; {
		data, end, err := nextData(from, start, size)
		if err != nil {
			return err
		}
		if data == end {
			break
		}
		_, err = io.Copy(io.NewOffsetWriter(to, data), io.NewSectionReader(from, data, end-data))
		if err != nil {
			return err
		}
		start = end
	}
	return nil
}

const (
	seekData = 3 // lseek(2)
	seekHole = 4
)

// nextData finds the next range of a file that is no hole; an empty one at the end of the file.
func nextData(file *os.File, start, size int64) (int64, int64, error) {
	data, err := file.Seek(start, seekData)
	if errors.Is(err, syscall.ENXIO) { // only a hole is left
		return size, size, nil
	}
	if err != nil {
		return 0, 0, err
	}
	end, err := file.Seek(data, seekHole)
	return min(data, size), min(end, size), err
}
