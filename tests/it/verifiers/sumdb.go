// Says of each case whether Go's module transparency log accepts it: sumdb/note and sumdb/tlog.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type testCase struct {
	Leaf  []byte
	Index int64
	Path  [][]byte
	Note  string
	Key   string
}

func judge(it testCase) error {
	verifier, err := note.NewVerifier(it.Key)
	if err != nil {
		return err
	}
	opened, err := note.Open([]byte(it.Note), note.VerifierList(verifier))
	if err != nil {
		return err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return fmt.Errorf("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, bytes := range it.Path {
		var hash tlog.Hash
		if len(bytes) != len(hash) {
			return fmt.Errorf("not a hash")
		}
		copy(hash[:], bytes)
		proof = append(proof, hash)
	}
	return tlog.CheckRecord(proof, size, root, it.Index, tlog.RecordHash(it.Leaf))
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	var cases []testCase
	if err := json.Unmarshal(text, &cases); err != nil {
		panic(err)
	}
	for _, it := range cases {
		if err := judge(it); err != nil {
			fmt.Println("refused:", err)
		} else {
			fmt.Println("accepted")
		}
	}
}
