// Package sample uses most of what the language has.
package sample

import (
	"errors"
	"fmt"
)

const limit = 10

var pattern = `raw " ( string`

type Point struct {
	X, Y float64
	Tags map[string][]int
}

type Shape interface {
	Area() float64
}

func (p *Point) Area() float64 {
	if p == nil {
		return 0
	} else if p.X > limit {
		return p.X * p.Y
	}
	return p.X
}

func walk(points []Point, done chan<- bool) (total float64, err error) {
	for i, point := range points {
		switch {
		case point.X > 1:
			total += point.Area()
		default:
			err = errors.New("bad '(' sign")
		}
		go func() { done <- i > 0 }()
	}
	defer fmt.Println('(', "\"", pattern)
	return total, err
}
